"""Two protocols per record: how the network was trained, and how its predictions were measured.

Each is hashed by meaning: it holds every setting that may change the number, with the count and
digest of its images, and nothing else (no path, no file name, no number of workers).
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transfer.tasks import TASKS

Settings = dict[str, Any]
HASH_DIGITS = 12


@dataclass(frozen=True)
class Protocols:
    """The settings of training and of evaluation, as JSON values."""

    train: Settings
    eval: Settings


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return twelve hex digits that change whenever a setting changes (key order does not count).

    A whole number counts as the float that equals it.
    """
    return _hash_of(json.dumps(protocol, allow_nan=False))


@lru_cache(maxsize=4096)
def _hash_of(protocol: str) -> str:
    text = json.dumps(_floats(json.loads(protocol)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def _floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _floats(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def image_list(names: Iterable[str], classes: Sequence[str]) -> Settings:
    """Return count and digest of a list of images, and the classes they are labelled with.

    A name is relative to the images' folder, and may carry what is labelled in its image.
    """
    digest, count = hashlib.sha256(), 0
    for name in sorted(names):
        digest.update(os.fsencode(name) + b"\0")
        count += 1
    return {"images": count, "digest": digest.hexdigest()[:16], "classes": list(classes)}


def without(settings: Mapping[str, Any], keys: Iterable[str]) -> Settings:
    """Return the settings without the given keys, dotted for those of inner settings."""
    outer = {key for key in keys if "." not in key}
    kept = {k: v for k, v in settings.items() if k not in outer}
    for key in keys:
        head, dot, rest = key.partition(".")
        if dot and isinstance(kept.get(head), Mapping):
            kept[head] = without(kept[head], [rest])
    return kept


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings in which two protocols differ: dotted name -> [old, new]."""
    found: dict[str, Any] = {}
    for name in sorted(old.keys() | new.keys()):
        one, other, key = old.get(name), new.get(name), f"{prefix}{name}"
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= differing(one, other, f"{key}.")
        elif _floats(one) != _floats(other):
            found[key] = [one, other]
    return found


def budget_notes(budget: str, steps: int) -> list[str]:
    """Return what a record says of a run that was shortened by its budget."""
    return [] if budget == "full" else [f"budget={budget}: {steps} steps"]


def origin(path: Path | None, shipped: Protocols, own: Protocols, task: str) -> Settings | None:
    """Return the shipped config that a run was made from and what it changed; None for another.

    `shipped` are the protocols of the file alone, on the images of the run.
    """
    if path is None or Path(path).resolve().parent != TASKS[task].configs.resolve():
        return None
    return {
        "name": Path(path).stem,
        "train": differing(shipped.train, own.train),
        "eval": differing(shipped.eval, own.eval),
    }
