"""Checks of the dataclasses of settings; each raises ValueError with name, value and range."""

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

SEEDS = 2**32  # NumPy takes none from here on


def choices(settings: Any) -> None:
    """Raise ValueError for a value that is not among those of its Literal type."""
    for name, kind in get_type_hints(type(settings)).items():
        allowed, value = get_args(kind), getattr(settings, name)
        if get_origin(kind) is Literal and value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def above_zero(settings: Any, *names: str) -> None:
    """Raise ValueError for a number that is not above 0; None switches a setting off."""
    for name in names:
        value = getattr(settings, name)
        require(value is None or 0 < value < math.inf, f"{name}={value} must be above 0")


def at_least(settings: Any, least: int, *names: str) -> None:
    """Raise ValueError for a number below `least`; None switches a setting off."""
    for name in names:
        value = getattr(settings, name)
        good = value is None or least <= value < math.inf
        require(good, f"{name}={value} must be at least {least}")


def shares(settings: Any, *names: str) -> None:
    """Raise ValueError for a number outside of [0, 1]."""
    for name in names:
        value = getattr(settings, name)
        require(0 <= value <= 1, f"{name}={value} is not in [0, 1]")


def rising(settings: Any, most: float, *names: str) -> None:
    """Raise ValueError for a pair that is not above 0, at most `most`, and from low to high."""
    for name in names:
        low, high = getattr(settings, name)
        where = "above 0" if most == math.inf else f"within (0, {most}]"
        good = 0 < low <= high <= most and high < math.inf
        require(good, f"{name}={(low, high)} is not {where}, low to high")


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)
