"""Nested configs of any framework as plain values: read, scaled, written as an option."""

import json
from collections.abc import Mapping
from typing import Any

# in detection's augmentations: what is measured in pixels
PIXELS = ("short_edge_length", "max_size", "target_height", "target_width", "crop_size")


def lengths_px(node: Any, name: str = "") -> list[float]:
    """Return every length in pixels in nested augmentations."""
    if hasattr(node, "items"):
        return [px for key, value in node.items() for px in lengths_px(value, str(key))]
    if _is_list(node):
        return [px for value in node for px in lengths_px(value, name)]
    return [node] if name in PIXELS and isinstance(node, int | float) else []


def shrunk(node: Any, scale: float, name: str = "") -> Any:
    """Return nested augmentations as plain values, lengths in pixels times `scale`."""
    if hasattr(node, "items"):
        return {str(key): shrunk(value, scale, str(key)) for key, value in node.items()}
    if _is_list(node):
        return [shrunk(value, scale, name) for value in node]
    if callable(node):
        return f"{node.__module__}.{node.__qualname__}"
    return max(8, round(scale * node)) if name in PIXELS else node


def plain(node: Any) -> Any:
    """Return a nested config as dictionaries and lists."""
    return shrunk(node, 1.0) if hasattr(node, "items") or _is_list(node) else node


def value_at(config: Any, key: str) -> Any:
    """Return the value at a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def as_text(value: Any) -> str:
    """Return a value as an option of the command line has it."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        return json.dumps(list(value))
    return str(value)


def _is_list(node: Any) -> bool:
    return not isinstance(node, str) and hasattr(node, "__iter__")
