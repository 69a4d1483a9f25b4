"""A suite: pretrainings and the cells they feed."""

import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One task trained from one set of weights, once per seed.

    `weights` is a pretraining recipe (`configs/pretrain/NAME.py`), a weights file, or "none". A
    scratch cell says in `like` which recipe's architecture it trains, or gives `arch`.
    """

    weights: str
    task: str  # configs/detection/NAME.py or configs/segmentation/NAME.py
    like: str | None = None
    arch: str | None = None
    arch_args: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()  # key=value overrides of the task's config
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Suite:
    """Cells and the data they need.

    `shapes` holds arguments of tools/make_shapes.py; None means that the datasets lie in standard
    layout under DETECTRON2_DATASETS and that `pretrain_data` names the images to pretrain on.
    """

    cells: tuple[Cell, ...]
    shapes: tuple[str, ...] | None = None
    pretrain_data: str | None = None
    pretrain_options: tuple[str, ...] = ()


def load_suite(path: Path) -> Suite:
    """Load the `suite` that a file of configs/suites defines.

    Raises FileNotFoundError if there is no file, ValueError if it defines no suite.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no suite at {path}; the shipped ones are in configs/suites")
    suite = runpy.run_path(str(path)).get("suite")
    if not isinstance(suite, Suite):
        raise ValueError(f"{path} does not define `suite = Suite(...)`")
    return suite
