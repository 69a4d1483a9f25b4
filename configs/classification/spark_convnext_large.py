"""SparK ConvNeXt-L: spark_convnext_small.py, half as long."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("spark_convnext_small.py")
finetuning = replace(
    base,
    arch="convnext_large",  # models/convnext_official.py
    drop_path_rate=0.5,  # arg.py
    optimizer=replace(
        base.optimizer,
        base_lr=1e-4,  # arg.py
        weight_decay=0.02,  # arg.py
    ),
    schedule=replace(
        base.schedule,
        epochs=200,  # arg.py
        warmup_epochs=10,  # arg.py
    ),
)
