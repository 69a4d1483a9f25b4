"""FCMAE ConvNeXt V2-T on ImageNet-1K at 384 px, from its ImageNet-22K stage (Table 13)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_tiny_in22k_in1k_224.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=384,  # Table 15
        squash=True,  # datasets.py: from 384 px on whole images are warped
    ),
)
