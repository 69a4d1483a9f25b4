"""FCMAE ConvNeXt V2-L: fcmae_convnextv2_base.py with its own stochastic depth."""

from dataclasses import replace

from transfer.classification.config import load_config

finetuning = replace(
    load_config("fcmae_convnextv2_base.py"),
    arch="convnextv2_large",  # models/convnextv2.py
    drop_path_rate=0.2,  # Table 11
)
