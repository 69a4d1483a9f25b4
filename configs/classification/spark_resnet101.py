"""SparK ResNet-101: spark_resnet50.py with its own rates and stochastic depth."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("spark_resnet50.py")
finetuning = replace(
    base,
    arch="resnet101",  # models/__init__.py: timm's
    drop_path_rate=0.2,  # arg.py
    optimizer=replace(
        base.optimizer,
        base_lr=1e-3,  # arg.py
        layer_decay=0.8,  # arg.py, lr_scale
    ),
)
