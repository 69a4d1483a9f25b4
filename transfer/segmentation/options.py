"""`--cfg-options key=value`: typed as the config has it, and a wrong key names the nearest one."""

import ast
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

OPEN_KEYS = ("arch_args",)  # dicts in which every key is allowed


def apply_option(cfg: Config, option: str) -> None:
    """Set one `dotted.key=value`; ValueError for an unknown key names the nearest known one."""
    key, equals, text = option.partition("=")
    if not equals:
        raise ValueError(f"--cfg-options takes key=value, got {option!r}")
    parts = key.split(".")
    node: Any = cfg
    for depth, part in enumerate(parts):
        if not _has(node, part) and not (depth and parts[depth - 1] in OPEN_KEYS):
            raise ValueError(f"the config has no key {key!r}{_hint(key, cfg)}")
        if depth < len(parts) - 1:
            node = node[_place(node, part)]
    last = _place(node, parts[-1])
    old = node[last] if _has(node, parts[-1]) else None
    node[last] = _like(old, parse_value(text), option)


def parse_value(text: str) -> Any:
    """A Python or JSON literal, else the text itself."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _has(node: Any, part: str) -> bool:
    if isinstance(node, Sequence) and not isinstance(node, str):
        return part.isdigit() and int(part) < len(node)
    return isinstance(node, Mapping | Config) and part in node


def _place(node: Any, part: str) -> Any:
    return int(part) if isinstance(node, Sequence) else part


def _hint(key: str, cfg: Config) -> str:
    near = difflib.get_close_matches(key, list(_keys(cfg)), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    items = node.items() if isinstance(node, Mapping | Config) else enumerate(node)
    for name, value in items:
        yield f"{prefix}{name}"
        if isinstance(value, Mapping | list | tuple):
            yield from _keys(value, f"{prefix}{name}.")


def _like(old: Any, new: Any, option: str) -> Any:
    """`new` in the form of `old`: "a,b" -> a list, 1 -> 1.0; ValueError where it cannot be."""
    if isinstance(old, list | tuple) and isinstance(new, str):
        return type(old)(parse_value(part.strip()) for part in new.split(","))
    if isinstance(old, bool) and isinstance(new, str) and new in ("true", "false"):
        return new == "true"
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    number = isinstance(old, int | float) and not isinstance(old, bool)
    if number and not isinstance(new, int | float):
        raise ValueError(f"{option}: a number is expected, like {old!r}")
    if isinstance(old, bool) and not isinstance(new, bool):
        raise ValueError(f"{option}: True or False is expected")
    return new
