"""ConvNeXt-L on ImageNet-1K after ImageNet-22K: convnext_base_in22k_in1k_224.py (TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("convnext_base_in22k_in1k_224.py"),  # here from convnext_large_22k_224.pth
    arch="convnext_large",  # TRAINING.md
    drop_path_rate=0.3,  # TRAINING.md
)
