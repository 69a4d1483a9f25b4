"""FCMAE ConvNeXt V2-Atto, 1600 epochs: fcmae_convnextv2_atto_800ep.py, twice as long."""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("fcmae_convnextv2_atto_800ep.py")
recipe = replace(
    base,
    schedule=replace(
        base.schedule,
        epochs=1600,  # Table 8: 800 or 1600; TRAINING.md's example
    ),
)
