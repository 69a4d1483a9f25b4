"""What lies beside a step's folder: the fingerprint it was made with, and how its run ended.

NAME.step.json stands next to the folder NAME, so that every launcher of a suite, on any machine
that shares the disk, reads the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.files.write import atomic_write
from pretrain.run.folder import read_json
from transfer.results.protocol import differing
from transfer.suites.inputs import MISSING

SUFFIX = ".step.json"
MOST = 4  # changes told in one line


@dataclass(frozen=True)
class Mark:
    """A step as it was started last.

    `status` is the exit status of a run that failed, None otherwise. `hours` add up over resumed
    runs; None where a launcher was killed and they are not known.
    """

    fingerprint: dict[str, Any]
    status: int | None = None
    hours: float | None = 0.0
    running_since: float | None = None  # seconds since 1970
    gpus: int = 0
    device: str = ""

    def write(self, folder: Path) -> None:
        """Write the mark of the step that fills `folder`, atomically."""
        text = json.dumps(asdict(self), indent=1)
        atomic_write(mark_path(folder), lambda path: path.write_text(text + "\n"))


def mark_path(folder: Path) -> Path:
    """Return where the mark of the step that fills `folder` lies."""
    return folder.with_name(folder.name + SUFFIX)


def read_mark(folder: Path) -> Mark | None:
    """Return the mark of the step that fills `folder`; None if there is none, or it is broken."""
    return read_mark_file(mark_path(folder))


def read_mark_file(path: Path) -> Mark | None:
    """Return the mark in a file; None if there is none, or it is broken."""
    try:
        return Mark(**read_json(path))
    except (ValueError, TypeError):
        return None


def fingerprint_of(
    settings: Mapping[str, Any], needs: Mapping[str, str], before: Mark | None
) -> dict[str, Any]:
    """Return what a step is made of: its settings and the digests of the steps that it needs.

    What cannot be looked at (weights that were moved away) is taken as it was before.
    """
    fingerprint = json.loads(json.dumps({**settings, "needs": dict(needs)}))
    return _filled(fingerprint, before.fingerprint) if before else fingerprint


def _filled(now: Any, before: Any) -> Any:
    if now == MISSING:
        return before
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: _filled(value, before.get(key, value)) for key, value in now.items()}
    return now


def digest_of(fingerprint: Mapping[str, Any]) -> str:
    """Return twelve hex digits that stand for a fingerprint."""
    text = json.dumps(fingerprint, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words what differs between two fingerprints."""
    told = []
    for key, (old, new) in differing(before, now).items():
        part, _, name = key.partition(".")
        if part == "needs":
            told.append(f"{name}, which it builds on, has changed")
        elif part == "config" and name:
            told.append(f"{name} was {old!r}, is {new!r}")
        else:
            told.append(f"{key} was {old!r}, is {new!r}")
    return told
