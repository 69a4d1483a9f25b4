"""FCMAE ConvNeXt V2-Nano: fcmae_convnextv2_atto.py with its own regularisation (Table 9)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_atto.py")
finetuning = replace(
    base,
    arch="convnextv2_nano",  # models/convnextv2.py
    targets=replace(
        base.targets,
        mixup=0.5,  # Table 9
        cutmix=0.5,  # Table 9
    ),
    drop_path_rate=0.1,  # Table 9
    optimizer=replace(
        base.optimizer,
        weight_decay=0.3,  # Table 9
    ),
)
