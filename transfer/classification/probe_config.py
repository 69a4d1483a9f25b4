"""Every setting of a probe of frozen features."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pretrain.config.ranges import SEEDS, at_least, choices, require
from transfer.classification.config import Input, checked, override


@dataclass(frozen=True)
class Probing:
    """A linear probe and a k-NN of features that are computed once."""

    dataset: str = "classes"  # name in tables
    weights_source: str | None = None  # layout of the weights file, where it is not recognised
    arch: str | None = None  # timm's name; None: the weights'
    arch_args: dict[str, Any] = field(default_factory=dict)  # of timm.create_model
    layers: tuple[str, ...] = (
        "res2",
        "res3",
        "res4",
        "res5",
    )  # maps, averaged over the image; ours
    images: Input = field(default_factory=Input)
    epochs: int = 100  # of the linear probe; ours: DINOv2 trains 12,500 steps
    batch_size: int = 1024  # vectors per step; ours
    # learning rates that are tried at once, as DINOv2 does; ours
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
    held_out: float = 0.1  # share of the training images that layer and rate are chosen by; ours
    neighbours: int = 20  # DINO's eval_knn.py
    temperature: float = 0.07  # DINO's eval_knn.py
    test_batch_size: int = 256  # images at once
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda if there is one
    workers: int | Literal["auto"] = "auto"  # data processes; auto: by the machine's cores
    seed: int = 0  # of a random encoder, the held-out images and the order of the vectors

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "epochs", "batch_size", "neighbours", "test_batch_size")
        require(0 <= self.seed < SEEDS, f"seed={self.seed} must be at least 0, below 2**32")
        require(0 < self.held_out < 1, f"held_out={self.held_out} is not between 0 and 1")
        require(self.temperature > 0, f"temperature={self.temperature} must be above 0")
        require(bool(self.layers) and bool(self.rates), "layers and rates need a value each")


def probing(overrides: Iterable[str] = ()) -> Probing:
    """Return the settings with `key=value` overrides. Raises ConfigError for one that is none."""
    config = Probing()
    for word in overrides:
        config = override(config, word)
    return checked(config)
