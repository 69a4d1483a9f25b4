"""FCMAE ConvNeXt V2-Pico: fcmae_convnextv2_atto.py with its own regularisation (Table 9)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_atto.py")
finetuning = replace(
    base,
    arch="convnextv2_pico",  # models/convnextv2.py
    targets=replace(
        base.targets,
        mixup=0.3,  # Table 9
        cutmix=0.3,  # Table 9
    ),
    drop_path_rate=0.0,  # Table 9
    optimizer=replace(
        base.optimizer,
        weight_decay=0.3,  # Table 9
    ),
)
