"""Recipes from files: the Python files of configs/pretrain, and the JSON of a run's folder.

A setting that a recipe does not have is an error that says its new name, or the nearest one.
"""

import re
import runpy
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

import pretrain.config.recipe
from pretrain.config.recipe import MethodSettings, Recipe
from pretrain.run.options import did_you_mean, find_shipped

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "pretrain"

# former names of settings
RENAMED = {
    "decay": "always_decay",
    "no_decay": "never_decay",
    "precision": "a setting of the recipe itself",  # was one of `run`
    "tokenizer_ema": "tokenizer_ema_decay",
}


def load_recipe(path: Path | str) -> Recipe:
    """Return the `recipe` that the Python file `path` defines.

    A bare file name means a file in configs/pretrain, so that recipes can vary one another.
    Raises FileNotFoundError if the file is missing, ValueError if it defines no valid recipe.
    """
    file = find_config(path)
    try:
        recipe = runpy.run_path(str(file)).get("recipe")
    except TypeError as error:
        raise ValueError(f"{file}: {error}{_nearest_field(str(error))}") from error
    except (ValueError, ImportError, SyntaxError, NameError, AttributeError) as error:
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{file} does not define `recipe = Recipe(...)`")
    return recipe


def find_config(path: Path | str) -> Path:
    """Return the file of a recipe, as `find_shipped` finds it."""
    return find_shipped(path, CONFIG_FOLDER)


def _nearest_field(error: str) -> str:
    """Return what to write instead of an argument that the recipe's classes do not have."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", error)
    owner = found and getattr(pretrain.config.recipe, found[1], None)
    if not found or not is_dataclass(owner):
        return ""
    return renamed(found[2], [item.name for item in fields(owner)])


def renamed(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown setting: its new name, or the nearest one."""
    new = RENAMED.get(name.replace("-", "_"))
    return f": it is now {new}" if new else did_you_mean(name, known)


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `to_json` wrote. Raises ValueError for a setting that is not one."""
    method = dict(values.get("method") or {})
    name = method.pop("name", None)
    kinds = {kind.name: kind for kind in get_args(MethodSettings)}
    if name not in kinds:
        raise ValueError(f"method={name!r} is not one of {', '.join(kinds)}: not a saved recipe")
    kind = kinds[name]
    refuse_unknown(kind, method)
    settings = TypeAdapter(kind).validate_python(method)
    refuse_unknown(Recipe, {**values, "method": None})
    return TypeAdapter(Recipe).validate_python({**values, "method": settings})


def refuse_unknown(kind: Any, values: Mapping[str, Any]) -> None:
    """Raise ValueError for a key of nested `values` that the dataclass `kind` does not have."""
    types = get_type_hints(kind)
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"{kind.__name__} has no setting {key!r}{renamed(key, types)}")
        if is_dataclass(types[key]) and isinstance(value, Mapping):
            refuse_unknown(types[key], value)
