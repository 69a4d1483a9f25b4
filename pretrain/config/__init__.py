"""Every setting of a pretraining run, its source beside it.

recipe.py       the frozen dataclasses, reading and writing them
tokenizer.py    the settings of BEiT's tokenizer
origins.py      the comment beside each setting, read from source
explain.py      --explain: the table of settings, values and sources
"""

from pretrain.config.recipe import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    BeitSettings,
    FcmaeSettings,
    Optimizer,
    Recipe,
    Run,
    Schedule,
    SparkSettings,
    load_recipe,
    recipe_from_json,
)
from pretrain.config.tokenizer import TokenizerSettings

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Augmentation",
    "BeitSettings",
    "FcmaeSettings",
    "Optimizer",
    "Recipe",
    "Run",
    "Schedule",
    "SparkSettings",
    "TokenizerSettings",
    "load_recipe",
    "recipe_from_json",
]
