"""SparK ConvNeXt-B: spark_convnext_small.py with its own rate and stochastic depth."""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("spark_convnext_small.py")
finetuning = replace(
    base,
    arch="convnext_base",  # models/convnext_official.py
    drop_path_rate=0.4,  # arg.py
    optimizer=replace(
        base.optimizer,
        base_lr=1e-4,  # arg.py
    ),
)
