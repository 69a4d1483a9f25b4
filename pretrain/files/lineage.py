"""The lineage of weights: every stage of training that they went through, in order.

Two encoders of one architecture are comparable only if their stages are known: FCMAE fine-tuned on
ImageNet is neither FCMAE nor supervised training from scratch.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

METHOD_NAME = re.compile(r"[a-z0-9_.+-]+")  # goes into tables, file names and web pages
STAGE_NAME = re.compile(r"[a-z0-9_.-]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
UNKNOWN = "unknown"  # how the weights were trained, where neither the file nor the user says it
WITH_LABELS = ("supervised", "deit")
CONTROL = "shuffled"  # the weights before it with the values of each tensor permuted
RANDOM = "random"  # never trained, and kept frozen: the control of a frozen encoder


@dataclass(frozen=True)
class Stage:
    """One training of an encoder.

    None means unknown. `data` names the images, e.g. "IN1K". `started_from` is the
    SHA-256 of the weights file that the stage began with, `seed` that of the stage's own run.
    """

    method: str
    data: str | None = None
    labels: bool | None = None
    epochs: float | None = None
    steps: int | None = None
    input_size: int | None = None  # pixels along a side
    started_from: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not STAGE_NAME.fullmatch(self.method):
            raise ValueError(
                f"method must be a short name of a-z, 0-9, '_', '.' and '-', got {self.method!r}"
            )
        if not isinstance(self.labels, bool | None) or not isinstance(self.data, str | None):
            raise ValueError(f"a stage needs data as text and labels as true or false, got {self}")
        for name in ("epochs", "steps", "input_size", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ValueError(f"{name} of a stage must be a number, got {value!r}")
            if value is not None and not value >= 0:
                raise ValueError(f"{name} of a stage must be at least 0, got {value!r}")
        if self.started_from is not None and not SHA256.fullmatch(str(self.started_from)):
            raise ValueError(
                f"started_from must be a SHA-256 of 64 hex digits, got {self.started_from!r}"
            )

    def __str__(self) -> str:
        length = f"{self.epochs:g} epochs" if self.epochs is not None else None
        if length is None and self.steps is not None:
            length = f"{self.steps:,} steps"
        size = f"{self.input_size} px" if self.input_size else None
        details = ", ".join(part for part in (self.data, length, size) if part)
        return f"{self.method} ({details})" if details else self.method


Lineage = tuple[Stage, ...]


def read_stages(values: Iterable[Mapping[str, Any]]) -> Lineage:
    """Return stages from JSON values.

    Raises ValueError for what is not a list of stages; it names the keys that a stage may have.
    """
    known = [f.name for f in fields(Stage)]
    stages = []
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"stages must be a list, got {values!r}")
    for value in values:
        if (
            not isinstance(value, Mapping)
            or not value.keys() <= set(known)
            or "method" not in value
        ):
            raise ValueError(
                f"{value!r} is not a stage: an object with method and any of {', '.join(known[1:])}"
            )
        stages.append(Stage(**value))
    return tuple(stages)


def parse_stages(text: str) -> Lineage:
    """Return stages from the JSON text that a user gives. Raises ValueError if it is none."""
    try:
        return read_stages(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"stages must be a JSON list: {error}") from None


def write_stages(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return stages as JSON values, without what is not known."""
    return [{k: v for k, v in asdict(stage).items() if v is not None} for stage in stages]


def method_of(stages: Sequence[Stage]) -> str:
    """Return the methods of all stages, e.g. "fcmae+supervised"; "scratch" if there is none."""
    return "+".join(stage.method for stage in stages) or "scratch"


def stages_of_method(method: str, **last: Any) -> Lineage:
    """Return the stages that a method's name tells; `last` completes the last of them."""
    stages = [Stage(name, labels=labels_of(name)) for name in method.split("+")]
    stages[-1] = replace(stages[-1], **last)
    return tuple(stages)


def labels_of(method: str) -> bool | None:
    """Return whether a method learns from labels; None for weights of unknown training."""
    return None if method == UNKNOWN else method in WITH_LABELS


def kind_of(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return what makes a lineage: its stages without seeds and file hashes."""
    return tuple(replace(stage, seed=None, started_from=None) for stage in stages)


def pretraining_seeds(stages: Sequence[Stage]) -> tuple[int | None, ...]:
    """Return the seed of each stage, None where it is not recorded."""
    return tuple(stage.seed for stage in stages)
