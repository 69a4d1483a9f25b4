"""BEiT-L/16 on ImageNet-1K after ImageNet-22K's labels: get_started_for_image_classification.md."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_large_in1k.py")
finetuning = replace(
    base,
    targets=replace(
        base.targets,
        mixup=0.0,  # run_class_finetuning.py's default
        cutmix=0.0,  # run_class_finetuning.py's default
    ),
    drop_path_rate=0.4,  # get_started
    batch_size=512,  # get_started
    optimizer=replace(
        base.optimizer,
        base_lr=2e-5,  # get_started
        weight_decay=1e-8,  # get_started
        layer_decay=0.9,  # get_started
    ),
    schedule=replace(
        base.schedule,
        epochs=30,  # get_started
        warmup_epochs=5,  # get_started
        final=1e-6 / 2e-5,  # run_class_finetuning.py, --min_lr 1e-6
    ),
)
