"""FCMAE ConvNeXt V2-Huge, 800 epochs; all settings: fcmae_convnextv2_atto_800ep.py."""

from dataclasses import replace

from pretrain.config import load_recipe

recipe = replace(
    load_recipe("fcmae_convnextv2_atto_800ep.py"),
    arch="convnextv2_huge",  # models/fcmae.py
)
