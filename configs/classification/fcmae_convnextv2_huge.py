"""FCMAE ConvNeXt V2-H (Table 11); no command of the code: fcmae_convnextv2_base.py beside it.

Table 11's rate for B is ten times the code's; whether the one for H is as well is not known, and it
is taken as it stands. The kind of layer decay is not stated for H: groups, as for B and L.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_base.py")
finetuning = replace(
    base,
    arch="convnextv2_huge",  # models/convnextv2.py
    drop_path_rate=0.3,  # Table 11
    optimizer=replace(
        base.optimizer,
        base_lr=1.25e-3,  # Table 11
        layer_decay=0.75,  # Table 11
    ),
    schedule=replace(
        base.schedule,
        epochs=50,  # Table 11
        warmup_epochs=10,  # Table 11
        final=1e-6 / 5e-3,  # main_finetune.py, --min_lr 1e-6 of 1.25e-3 * 1024 / 256
    ),
)
