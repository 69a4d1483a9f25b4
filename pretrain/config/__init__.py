"""Every setting of a pretraining run, its source beside it.

recipe.py       the frozen dataclasses
ranges.py       their checks; declared.py: types and ranges in words
read.py         recipes from files and JSON; former names
tokenizer.py    the settings of BEiT's tokenizer
origins.py      the comment beside each setting, read from source
explain.py      --explain: the table of settings, values and sources
"""

from typing import Any

from pretrain.config.read import load_recipe, recipe_from_json
from pretrain.config.recipe import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    BeitSettings,
    FcmaeSettings,
    MethodSettings,
    Optimizer,
    Recipe,
    RunSettings,
    Schedule,
    SparkSettings,
)
from pretrain.config.tokenizer import TokenizerSettings

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Augmentation",
    "BeitSettings",
    "FcmaeSettings",
    "MethodSettings",
    "Optimizer",
    "Recipe",
    "RunSettings",
    "Schedule",
    "SparkSettings",
    "TokenizerSettings",
    "load_recipe",
    "recipe_from_json",
]

RENAMED = {"Run": "RunSettings", "Method": "MethodSettings"}  # former names of classes


def __getattr__(name: str) -> Any:
    """Say the new name of a class that a recipe imports by its former one."""
    if name in RENAMED:
        raise ImportError(f"pretrain.config has no {name}: it is now {RENAMED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
