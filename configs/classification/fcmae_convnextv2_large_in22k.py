"""FCMAE ConvNeXt V2-L on ImageNet-22K's labels: as fcmae_convnextv2_base_in22k.py (Table 12)."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("fcmae_convnextv2_base_in22k.py"),
    arch="convnextv2_large",  # models/convnextv2.py
)
