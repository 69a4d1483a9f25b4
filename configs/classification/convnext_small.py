"""ConvNeXt-S from scratch: convnext_tiny.py with its own stochastic depth (TRAINING.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("convnext_tiny.py"),
    arch="convnext_small",  # TRAINING.md
    drop_path_rate=0.4,  # TRAINING.md
)
