"""SparK ResNet-200: spark_resnet50.py with its own stochastic depth."""

from dataclasses import replace

from pretrain.config import load_recipe

recipe = replace(
    load_recipe("spark_resnet50.py"),
    arch="resnet200",  # models/__init__.py: timm's
    drop_path_rate=0.15,  # models/__init__.py, pretrain_default_model_kwargs
)
