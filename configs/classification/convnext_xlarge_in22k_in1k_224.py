"""ConvNeXt-XL on ImageNet-1K after ImageNet-22K: convnext_base_in22k_in1k_224.py (TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("convnext_base_in22k_in1k_224.py"),  # here from convnext_xlarge_22k_224.pth
    arch="convnext_xlarge",  # TRAINING.md
    drop_path_rate=0.4,  # TRAINING.md
    ema_decay=0.9999,  # TRAINING.md: --model_ema true; main.py
)
