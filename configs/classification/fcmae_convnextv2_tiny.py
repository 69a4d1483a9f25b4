"""FCMAE ConvNeXt V2-T fine-tuned on ImageNet-1K (Table 10); else as fcmae_convnextv2_atto.py."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("fcmae_convnextv2_atto.py")
finetuning = replace(
    base,
    arch="convnextv2_tiny",  # models/convnextv2.py
    targets=replace(
        base.targets,
        label_smoothing=0.1,  # Table 10, TRAINING.md
        mixup=0.8,  # Table 10, TRAINING.md
        cutmix=1.0,  # Table 10, TRAINING.md
    ),
    drop_path_rate=0.2,  # Table 10, TRAINING.md
    optimizer=replace(
        base.optimizer,
        base_lr=8e-4,  # Table 10, TRAINING.md
        weight_decay=0.05,  # Table 10, TRAINING.md
    ),
    schedule=replace(
        base.schedule,
        epochs=300,  # Table 10, TRAINING.md
        warmup_epochs=40,  # Table 10, TRAINING.md
        final=1e-6 / 3.2e-3,  # main_finetune.py, --min_lr 1e-6 of 8e-4 * 1024 / 256
    ),
)
