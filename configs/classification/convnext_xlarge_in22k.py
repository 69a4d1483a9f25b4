"""ConvNeXt-XL on ImageNet-22K's labels: convnext_base_in22k.py with its own stochastic depth."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("convnext_base_in22k.py"),
    arch="convnext_xlarge",  # TRAINING.md
    drop_path_rate=0.2,  # TRAINING.md
)
