"""FCMAE ConvNeXt V2-H on ImageNet-1K at 512 px, from its ImageNet-22K stage (Table 13)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_huge_in22k_in1k_384.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=512,  # Table 15
    ),
)
