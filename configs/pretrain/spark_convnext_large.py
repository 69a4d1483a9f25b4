"""SparK ConvNeXt-L at 224 px: spark_convnext_small.py with its own stochastic depth."""

from dataclasses import replace

from pretrain.config import load_recipe

recipe = replace(
    load_recipe("spark_convnext_small.py"),
    arch="convnext_large",  # models/convnext.py
    drop_path_rate=0.4,  # models/__init__.py, pretrain_default_model_kwargs
)
