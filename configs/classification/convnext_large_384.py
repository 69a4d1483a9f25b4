"""ConvNeXt-L at 384 px from its own weights at 224 px (facebookresearch/ConvNeXt TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("convnext_base_384.py"),  # here from those of convnext_large.py
    arch="convnext_large",  # TRAINING.md
    drop_path_rate=0.95,  # TRAINING.md
)
