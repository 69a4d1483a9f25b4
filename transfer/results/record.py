"""One validated result.json per run: what was trained on what, how, and what came out.

Tables are made only from these records. A record holds two protocols, of training and of
evaluation, each whole and with its hash; a later evaluation with other settings has a record of its
own, RUN/evals/HASH.json.
"""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_json

from pretrain.files.lineage import SHA256, Stage, method_of
from pretrain.files.write import atomic_write
from transfer.results.protocol import protocol_hash
from transfer.tasks import TASKS

if TYPE_CHECKING:
    import torch

RECORD_NAME = "result.json"
EVALUATIONS = "evals"  # folder of a run's later evaluations


class Strict(BaseModel):
    """Frozen; an unknown key is an error, and so is text or true where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Environment(Strict):
    """Where the run happened."""

    suite_version: str
    commit: str  # "unknown" outside a git checkout
    dirty: bool | None  # uncommitted changes; None where unknown
    python: str
    packages: dict[str, str]
    device: str


class Dataset(Strict):
    """Name and counts of what was trained and evaluated on."""

    name: str
    train_images: int = Field(ge=0)
    val_images: int = Field(ge=0)
    classes: list[str]


class Cost(Strict):
    """What the run took. Wall-clock hours; peak memory in MiB of the device, or of the process.

    `devices` is the number of GPUs, or of processes on CPUs, that worked for so long.
    """

    hours: float = Field(ge=0)
    devices: int | None = Field(default=None, ge=1)
    images_per_second: float | None = Field(default=None, ge=0)
    peak_memory_mib: float | None = Field(default=None, ge=0)


class Origin(Strict):
    """The shipped config that a run was made from, and what was changed: name -> [there, here]."""

    name: str
    train: dict[str, Any]
    eval: dict[str, Any]


class Training(Strict):
    """The half of a record that training made."""

    schema_version: Literal[2] = 2
    task: str  # a name of transfer/tasks.py
    method: str  # of all stages, "fcmae+supervised"; "scratch" without weights
    stages: list[Stage]  # the lineage of the weights
    backbone: str  # the timm architecture
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    weights: dict[str, Any] | None  # load report with file, sha256 and identity; None for scratch
    dataset: Dataset
    train: dict[str, Any]  # protocol of training
    train_hash: str
    config: Origin | None = None
    seed: int = Field(ge=0)
    command: str | None = None  # that begins the run again; None where no tool began it
    cost: Cost
    environment: Environment
    notes: list[str] = Field(default_factory=list)  # e.g. "SyncBN ran as BatchNorm on one device"

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is not one of {', '.join(TASKS)}")
        _require_hash("train", self.train, self.train_hash)
        if self.method != method_of(self.stages):
            raise ValueError(
                f"method {self.method!r} is not that of the stages, {method_of(self.stages)!r}"
            )
        if (self.weights is None) != (not self.stages):
            raise ValueError("weights and stages go together: scratch has neither")
        if self.weights is not None and not SHA256.fullmatch(str(self.weights.get("sha256"))):
            raise ValueError("weights needs the file's sha256, of 64 hex digits")
        return self

    @property
    def sha256(self) -> str | None:
        """Return the SHA-256 of the weights file; None for scratch."""
        return self.weights["sha256"] if self.weights else None


class Result(Training):
    """A trained and evaluated run. `metrics` are in percent, higher is better, not rounded."""

    eval: dict[str, Any]  # protocol of evaluation
    eval_hash: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]] = Field(default_factory=dict)
    evaluator: str  # the engine that produced the numbers, with its version
    evaluated_in: Environment | None = None  # where it is not the training's
    evaluated_at: datetime | None = None

    @field_validator("metrics")
    @classmethod
    def _percent(cls, metrics: dict[str, float]) -> dict[str, float]:
        if not metrics:
            raise ValueError("a record needs at least one metric")
        for name, value in metrics.items():
            if not 0 <= value <= 100:
                raise ValueError(f"{name} = {value} is not a percentage in [0, 100]")
        return metrics

    @model_validator(mode="after")
    def _is_measured_as_it_says(self) -> Self:
        _require_hash("eval", self.eval, self.eval_hash)
        return self

    @property
    def protocol(self) -> dict[str, Any]:
        """Return both protocols."""
        return {"train": self.train, "eval": self.eval}

    @property
    def protocol_hash(self) -> str:
        """Return both hashes in one text."""
        return f"{self.train_hash}-{self.eval_hash}"


def _require_hash(name: str, protocol: Mapping[str, Any], found: str) -> None:
    expected = _hash_of(to_json(protocol, inf_nan_mode="constants"))
    if found != expected:
        raise ValueError(
            f"{name}_hash is {found}, the protocol's is {expected}: the record was edited; "
            "run it again, or take the settings back"
        )


@lru_cache(maxsize=4096)
def _hash_of(protocol: bytes) -> str:
    """Return the hash of a protocol as JSON; thousands of records share a few protocols."""
    return protocol_hash(json.loads(protocol))


def write_result(result: Result, folder: Path) -> Path:
    """Write `folder`/result.json atomically and return its path."""
    return _write(result, Path(folder) / RECORD_NAME)


def write_evaluation(training: Training, run: Path, **measured: Any) -> Path:
    """Write the record of a later evaluation, `run`/evals/HASH.json, and return its path.

    `measured` are the fields that Result adds. Raises ValueError if a record is there that says
    something else: it is never overwritten.
    """
    result = Result(**(fields_of(training) | measured))
    path = evaluation_path(run, result.eval_hash)
    if path.is_file() and read_result(path).metrics != result.metrics:
        raise ValueError(
            f"{path} holds other figures of the same evaluation: "
            f"{read_result(path).metrics}, now {result.metrics}; remove it to measure again"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path if path.is_file() else _write(result, path)


def fields_of(training: Training) -> dict[str, Any]:
    """Return the fields of a training as they are."""
    return {name: getattr(training, name) for name in Training.model_fields}


def origin_of_evaluation(training: Training, now: Origin | None) -> Origin | None:
    """Return the config of a later evaluation: trained as recorded, measured as it is now."""
    if training.config is None or now is None or training.config.name != now.name:
        return None
    return training.config.model_copy(update={"eval": now.eval})


def evaluation_path(run: Path, eval_hash: str) -> Path:
    """Return where a run keeps the record of a later evaluation."""
    return Path(run) / EVALUATIONS / f"{eval_hash}.json"


def environment_if_other(training: Training, device: "str | torch.device") -> Environment | None:
    """Return where this process runs, for Result.evaluated_in; None if it is as the training's."""
    here = describe_environment(device)
    return None if here == training.environment else here


def _write(result: Result, path: Path) -> Path:
    text = result.model_dump_json(indent=1)
    atomic_write(path, lambda p: p.write_text(text + "\n"))
    return path


def read_result(path: Path) -> Result:
    """Read a record, or the record in a run's folder.

    Raises FileNotFoundError if there is none, ValueError with the field that is wrong.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except IsADirectoryError:
        return read_result(path / RECORD_NAME)
    except FileNotFoundError:
        raise FileNotFoundError(f"no record at {path}: the run there has not finished") from None
    try:
        return Result.model_validate_json(text)
    except ValidationError as error:
        if _version_in(text) == 1:
            raise ValueError(
                f"{path} is a record of version 1, which does not say what evaluated the run: "
                "run it again"
            ) from error
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"{path} is not a valid record: {problems}") from error


def _version_in(text: bytes) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content.get("schema_version") if isinstance(content, dict) else None


def find_results(places: Iterable[Path]) -> list[Path]:
    """Return the records at `places`: files, runs, or folders searched at any depth; each once.

    Raises FileNotFoundError if a place, or a record in it, is missing.
    """
    found: set[Path] = set()
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"no record at {place}: no such file or folder")
        here = {place} if place.is_file() else set(_records_under(place))
        if not here:
            raise FileNotFoundError(f"no {RECORD_NAME} under {place}: no run there has finished")
        found |= here
    return sorted(found)


def _records_under(folder: Path) -> Iterable[Path]:
    for path, _, files in os.walk(folder):
        if path.endswith(os.sep + EVALUATIONS):
            yield from (Path(path, name) for name in files if name.endswith(".json"))
        elif RECORD_NAME in files:
            yield Path(path, RECORD_NAME)


def content_of(result: Result) -> tuple[Any, ...]:
    """Return what was measured and what it took: equal for copies of one record."""
    return tuple(sorted(result.metrics.items())), result.cost.hours, result.cost.images_per_second


def describe_environment(device: "str | torch.device" = "cpu") -> Environment:
    """Return versions, commit and device of this process."""
    # it imports torch, which tables do not need
    from pretrain.run.provenance import device_name, git_state, versions

    commit, dirty = git_state()
    packages = versions()
    return Environment(
        suite_version=packages.pop("mim-transfer"),
        commit=commit,
        dirty=dirty,
        python=packages.pop("python"),
        packages=packages,
        device=device_name(device),
    )
