"""Settings given as key=value: read the value, keep the setting's type, name the nearest key."""

import ast
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def parse_key_value(text: str) -> tuple[str, Any]:
    """Return key and value of "key=value". Raises ValueError for another form."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"{text!r} is not of the form key=value")
    return key.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Return a Python or JSON literal (1e-4, [1, 2], {"depths": [1, 1]}, true, None), else text."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def coerce_like(value: Any, old: Any) -> Any:
    """Convert `value` to the type of `old`.

    An integer may stand for a float and 1e5 for an integer, "a,b" for a list, a number for text.
    None switches a setting off, and may be replaced by anything. Raises ValueError if the
    conversion would change the meaning.
    """
    if old is None or value is None:
        return value
    if isinstance(old, Mapping):
        return _require(value, old, isinstance(value, Mapping), "keys and values")
    if isinstance(old, Sequence) and not isinstance(old, str):
        if isinstance(value, str):
            parts = [parse_value(part.strip()) for part in value.split(",")]
            value = tuple(parts) if isinstance(old, tuple) else parts
        return _require(value, old, isinstance(value, list | tuple), "several values")
    if isinstance(old, bool):
        return _require(value, old, isinstance(value, bool), "true or false")
    if isinstance(old, int):
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        return _require(value, old, type(value) is int, "a whole number")
    if isinstance(old, float):
        return float(_require(value, old, _is_number(value), "a number"))
    if isinstance(old, str):
        return str(_require(value, old, isinstance(value, str) or _is_number(value), "text"))
    return value


def did_you_mean(key: str, known: Iterable[str], count: int = 1) -> str:
    """Return "; did you mean 'lr'?" with the nearest of the known names, "" if none is near."""
    near = difflib.get_close_matches(key, list(known), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def find_shipped(path: Path | str, folder: Path) -> Path:
    """Return `path`, or the shipped config of that name in `folder`, with or without ".py".

    Raises FileNotFoundError, with similar names, if there is neither.
    """
    given = Path(path)
    for file in (given, folder / given.name, folder / f"{given.name}.py"):
        if file.is_file() and (file == given or given.parent == Path()):
            return file
    shipped = sorted(p.stem for p in folder.glob("*.py"))
    near = did_you_mean(given.stem, shipped, count=3)
    some = f"{', '.join(shipped[:3])} and {len(shipped) - 3} more"
    near = near or f"; {folder.parent.name}/{folder.name} has {some}"
    raise FileNotFoundError(f"no config at {path}{near}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(value: Any, old: Any, fits: bool, kind: str) -> Any:
    if not fits:
        raise ValueError(f"{kind} expected, like {old!r}, got {value!r}")
    return value
