"""The parts of a table, and how methods are written in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pretrain.files.lineage import CONTROL, RANDOM
from transfer.results.record import Result
from transfer.results.statistics import Difference

_NAMES = {
    "spark": "SparK",
    "fcmae": "FCMAE",
    "beit": "BEiT",
    "beitv2": "BEiT v2",
    "mae": "MAE",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "mocov3": "MoCo v3",
    "simmim": "SimMIM",
    "deit": "DeiT",
    "supervised": "Supervised",
}
_LATER = ("supervised", "supervised+supervised", CONTROL)
METHODS = {
    "scratch": "Scratch",
    RANDOM: "Random, frozen",
    **_NAMES,
    **{
        f"{first}+{later}": f"{name} + {later.replace('+', ' + ')}"
        for first, name in _NAMES.items()
        for later in _LATER
    },
}


@dataclass(frozen=True)
class Column:
    """A metric of a task on a dataset under one evaluation; `title` tells those that differ."""

    task: str
    dataset: str
    metric: str
    title: str
    eval_hash: str = ""


@dataclass(frozen=True)
class Cell:
    """Mean over `n` seeds in percent, standard deviation (n > 1), difference from scratch.

    `differences` has one entry per baseline present: scratch, supervised, control; `baselines` has
    their records.
    """

    mean: float
    sd: float | None
    n: int
    delta: float | None
    protocol: str  # train_hash
    differences: Mapping[str, Difference] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what its records say of their runs
    means: Mapping[str, float] = field(default_factory=dict)  # of all metrics of its records
    records: tuple[Result, ...] = ()
    baselines: Mapping[str, tuple[Result, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # on what was counted, and on what it is compared with

    @property
    def example(self) -> Result | None:
        """Return any of the records; None in a table that was made without."""
        return self.records[0] if self.records else None


@dataclass(frozen=True)
class Row:
    """A lineage on a backbone; `cells` lacks the columns that it has no run for."""

    method: str
    backbone: str
    label: str  # the backbone's name in the table
    cells: dict[Column, Cell]
    lineage: str = ""  # every stage in words
    variant: str = ""  # settings, where one lineage was trained in several ways
    labels: str = "no"  # the data whose labels the weights had seen before


@dataclass(frozen=True)
class Table:
    """Rows, columns and the notes that belong under them."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str]

    @property
    def shows_labels(self) -> bool:
        """Return whether any row's weights had, or may have, seen labels."""
        return any(row.labels != "no" for row in self.rows)
