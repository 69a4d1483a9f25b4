"""One validated result.json a run: what was trained on what, how, and what came out.

Tables are made only from these records. The protocol (every setting that may change the number)
is stored whole and hashed, so that two protocols never share a column silently.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pretrain.files.write import atomic_write
from pretrain.run.provenance import device_name, git_state, versions

RECORD_NAME = "result.json"


EVALUATION_NAME = "eval.json"  # of --eval-only with other settings than the run's: not a record


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    train_images: int
    val_images: int
    classes: list[str]


class Cost(Strict):
    """What the run took. Hours of wall clock; peak memory in MiB of the device (of the process on a CPU)."""  # noqa: E501

    hours: float = Field(ge=0)
    images_per_second: float | None = Field(default=None, ge=0)
    peak_memory_mib: float | None = Field(default=None, ge=0)


class Result(Strict):
    """One run. `metrics` are in percent, higher is better, not rounded."""

    schema_version: Literal[1] = 1
    task: Literal["detection", "segmentation"]
    method: str  # "spark", "fcmae", "beit", ...; "scratch" without weights
    backbone: str  # the timm architecture
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    weights: dict[str, Any] | None  # load report with file, sha256 and identity; None for scratch
    dataset: Dataset
    protocol: dict[str, Any]
    protocol_hash: str
    seed: int
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]] = Field(default_factory=dict)
    evaluator: str  # the engine that produced the numbers, with its version
    cost: Cost
    environment: Environment
    notes: list[str] = Field(default_factory=list)  # e.g. "SyncBN ran as BatchNorm on one device"

    @field_validator("metrics")
    @classmethod
    def _percent(cls, metrics: dict[str, float]) -> dict[str, float]:
        if not metrics:
            raise ValueError("a record needs at least one metric")
        for name, value in metrics.items():
            if not 0 <= value <= 100:
                raise ValueError(f"{name} = {value} is not a percentage in [0, 100]")
        return metrics


def protocol_hash(protocol: dict[str, Any]) -> str:
    """Twelve hex digits that change whenever a setting changes (key order does not count)."""
    text = json.dumps(protocol, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_result(result: Result, folder: Path) -> Path:
    """Write `folder`/result.json atomically; returns its path."""
    path = Path(folder) / RECORD_NAME
    text = result.model_dump_json(indent=1)
    atomic_write(path, lambda p: p.write_text(text + "\n"))
    return path


def changed_settings(trained: dict[str, Any], now: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the settings in which two protocols differ: name -> [the run's, the evaluation's]."""
    trained, now = (json.loads(json.dumps(side)) for side in (trained, now))
    names = sorted(trained.keys() | now.keys())
    return {n: [trained.get(n), now.get(n)] for n in names if trained.get(n) != now.get(n)}


def write_evaluation(
    folder: Path,
    *,
    metrics: dict[str, float],
    per_class: dict[str, dict[str, float]],
    evaluator: str,
    changed: dict[str, list[Any]] | None,
) -> Path:
    """Write `folder`/eval.json atomically; `changed` is None where the run's settings are unknown.

    Only the run that trained to its end makes a record: this has neither its cost nor its settings.
    """
    path = Path(folder) / EVALUATION_NAME
    content = {
        "metrics": metrics,
        "per_class": per_class,
        "evaluator": evaluator,
        "changed": changed,
    }
    text = json.dumps(content, indent=1)
    atomic_write(path, lambda p: p.write_text(text + "\n"))
    return path


def read_result(path: Path) -> Result:
    """Read a record, or the record in a run's folder; ValueError says which field is wrong."""
    path = Path(path)
    path = path / RECORD_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no record at {path}: the run there has not finished")
    try:
        return Result.model_validate_json(path.read_text())
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"{path} is not a valid record: {problems}") from error


def find_results(places: Iterable[Path]) -> list[Path]:
    """The records at `places`: files, runs, or folders searched at any depth; sorted, each once."""
    found: set[Path] = set()
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"no record at {place}: no such file or folder")
        here = {place} if place.is_file() else set(place.rglob(RECORD_NAME))
        if not here:
            raise FileNotFoundError(f"no {RECORD_NAME} under {place}: no run there has finished")
        found |= here
    return sorted(found)


def describe_environment(device: str | torch.device = "cpu") -> Environment:
    """Return versions, commit and device of this process."""
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
