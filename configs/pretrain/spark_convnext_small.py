"""SparK ConvNeXt-S: spark_resnet50.py with LAMB's second beta for ConvNeXts."""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("spark_resnet50.py")
recipe = replace(
    base,
    arch="convnext_small",  # models/convnext.py
    drop_path_rate=0.2,  # models/__init__.py, pretrain_default_model_kwargs
    optimizer=replace(
        base.optimizer,
        betas=(0.9, 0.999),  # main.py: 0.95 for ResNets, 0.999 for ConvNeXts
    ),
)
