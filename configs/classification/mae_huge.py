"""MAE ViT-H/14: mae_base.py, half as long, with its own rates (FINETUNE.md)."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("mae_base.py")
finetuning = replace(
    base,
    arch="vit_huge_patch14_224",  # models_vit.py
    drop_path_rate=0.3,  # FINETUNE.md
    optimizer=replace(
        base.optimizer,
        base_lr=1e-3,  # FINETUNE.md
        layer_decay=0.75,  # FINETUNE.md
    ),
    schedule=replace(
        base.schedule,
        epochs=50,  # FINETUNE.md
        final=1e-6 / 4e-3,  # main_finetune.py, --min_lr 1e-6 of 1e-3 * 1024 / 256
    ),
)
