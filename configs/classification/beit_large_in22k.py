"""BEiT-L/16 on ImageNet-22K's labels: the intermediate stage (unilm `beit/` README.md at 768a3c8).

There is no validation split (--disable_eval_during_finetuning): the run ends in its encoder file.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_large_in1k.py")
finetuning = replace(
    base,
    dataset="imagenet_22k",
    targets=replace(
        base.targets,
        mixup=0.0,  # run_class_finetuning.py's default
        cutmix=0.0,  # run_class_finetuning.py's default
    ),
    drop_path_rate=0.2,  # README.md
    batch_size=2048,  # README.md: 16 x 64 x 2
    optimizer=replace(
        base.optimizer,
        base_lr=2e-3,  # README.md
        clip_norm=1.0,  # README.md
    ),
    schedule=replace(
        base.schedule,
        epochs=90,  # README.md
        warmup_epochs=5,  # README.md
        final=1e-6 / 2e-3,  # run_class_finetuning.py, --min_lr 1e-6
    ),
    evaluate=False,  # README.md, --disable_eval_during_finetuning
)
