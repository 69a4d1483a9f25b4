"""ConvNeXt-L on ImageNet-1K at 384 px after ImageNet-22K (TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("convnext_large_in22k_in1k_224.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=384,  # TRAINING.md
        squash=True,  # datasets.py: from 384 px on whole images are warped
    ),
)
