"""Types and ranges in words are those of the fields and of the checks."""

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest

from pretrain.config.declared import declared
from pretrain.config.ranges import above_zero, at_least, require, rising, shares

MOST = 100


@dataclass
class Part:
    """A group."""

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (0.5, 2.0)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rising(self, 1, "scale")
        rising(self, math.inf, "ratio")


@dataclass
class Whole:
    """Settings of every kind."""

    steps: int | None = None
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    decay: float | None = None
    ratio_hidden: float = 0.6
    share: float = 0.5
    kind: Literal["a", "b", "c"] = "a"
    workers: int | Literal["auto"] = "auto"
    free: bool = False
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "workers")
        above_zero(self, "rate", "decay")
        require(self.rate <= MOST, "")
        require((self.decay or 0) < 1, "")
        require(all(0 <= b < 1 for b in self.betas), "")
        require(1 > self.ratio_hidden > 0, "")
        shares(self, "share")


def test_types_and_ranges_are_told_in_words():
    assert declared(Whole) == {
        "steps": "whole number or None, at least 1",
        "rate": "number, above 0, at most 100",
        "betas": "2 numbers, at least 0, below 1",
        "decay": "number or None, above 0, below 1",
        "ratio_hidden": "number, below 1, above 0",
        "share": "number, at least 0, at most 1",
        "kind": "a, b or c",
        "workers": "whole number or auto, at least 1",
        "free": "true or false",
        "scale": "2 numbers, above 0, at most 1, low to high",
        "ratio": "2 numbers, above 0, low to high",
        "names": "texts",
    }


@pytest.mark.parametrize("pair", [(0.0, 1.0), (0.9, 0.1), (0.5, 1.5), (math.nan, 1.0)])
def test_a_pair_that_does_not_rise_is_refused(pair):
    with pytest.raises(ValueError, match=r"scale=\(.*\) is not within \(0, 1\], low to high"):
        Part(scale=pair)
    with pytest.raises(ValueError, match=r"ratio=\(.*\) is not above 0, low to high"):
        Part(ratio=(-1.0, 2.0))
