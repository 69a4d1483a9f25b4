"""Which steps are done, which are not, and why: read from disk, the same for every launcher."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from pretrain.run.lock import locked
from transfer.suites.marks import (
    Mark,
    changes,
    digest_of,
    fingerprint_of,
    mark_path,
    read_mark,
)
from transfer.suites.steps import Step
from transfer.suites.suite import FineTune

Kind = Literal["done", "stale", "failed", "todo"]
LEASES = ".leases"


@dataclass(frozen=True)
class State:
    """How a step stands on disk, and why in words."""

    kind: Kind
    why: tuple[str, ...] = ()


class Board:
    """The steps of a suite and their states below the folder `out`."""

    def __init__(self, steps: Sequence[Step], out: Path) -> None:
        self.steps, self.out = {step.name: step for step in steps}, out
        self.fingerprints: dict[str, dict[str, Any]] = {}
        for step in steps:
            needs = {name: digest_of(self.fingerprints[name]) for name in step.needs}
            before = read_mark(step.folder)
            self.fingerprints[step.name] = fingerprint_of(step.settings, needs, before)

    def state(self, name: str) -> State:
        """Return how a step stands now."""
        step = self.steps[name]
        mark, whole = read_mark(step.folder), bool(step.products)
        if mark is None:
            return (
                State("stale", ("nothing says what it was made with",)) if whole else State("todo")
            )
        told = changes(mark.fingerprint, self.fingerprints[name])
        if told:
            return State("stale", tuple(told)) if step.folder.exists() else State("todo")
        if whole:
            return State("done")
        if mark.status is not None:
            return State("failed", (f"ended with status {mark.status}, see {self.log(name)}",))
        begun = step.folder.exists()
        return State("todo", ("begun, and stopped before its end",) if begun else ())

    def states(self) -> dict[str, State]:
        """Return how every step stands now."""
        return {name: self.state(name) for name in self.steps}

    def matching(self, patterns: Collection[str]) -> set[str]:
        """Return the steps whose name fits one of the shell patterns, or contains one as it is.

        Raises ValueError for a pattern that fits none.
        """
        found: set[str] = set()
        for pattern in patterns:
            fits = {n for n in self.steps if fnmatch(n, pattern) or pattern in n}
            if not fits:
                raise ValueError(f"no step fits {pattern!r}; the steps are {', '.join(self.steps)}")
            found |= fits
        return found

    def with_needs(self, names: Collection[str]) -> set[str]:
        """Return the steps and all that they build on, directly or not."""
        found, left = set(), list(names)
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self.steps[name].needs
        return found

    def with_dependents(self, names: Collection[str]) -> set[str]:
        """Return the steps and all that build on them, directly or not."""
        found = set(names)
        for name, step in self.steps.items():  # a step stands after those that it needs
            if found & set(step.needs):
                found.add(name)
        return found

    def lease(self, name: str) -> AbstractContextManager[None]:
        """Hold a step for this launcher alone. Raises ValueError if another holds it."""
        return locked(self.out / LEASES / name.replace("/", "~"))

    def try_lease(self, name: str) -> ExitStack | None:
        """Return the lease of a step, to be closed; None if another launcher holds it."""
        held = ExitStack()
        try:
            held.enter_context(self.lease(name))
        except (ValueError, FileNotFoundError):  # held; or its folder is being removed
            return None
        return held

    def is_written(self, name: str) -> bool:
        """Return whether a run writes in the step's folder: by hand, or of a killed launcher."""
        folder = self.steps[name].folder
        if not folder.is_dir():
            return False
        try:
            with locked(folder):
                return False
        except ValueError:
            return True

    def forget(self, names: Collection[str], *, aside: bool) -> None:
        """Let steps run again: with `aside` from the start, else from where they failed.

        Raises ValueError for one that another launcher runs.
        """
        for name in names:
            with self.lease(name):
                mark = read_mark(self.steps[name].folder)
                if aside:
                    self.set_aside(name)
                elif mark is not None:
                    replace(mark, status=None).write(self.steps[name].folder)

    def accept(self, names: Collection[str]) -> list[str]:
        """Take finished steps that are stale as done; return which. Their records stay as they are.

        Raises ValueError for one that another launcher runs.
        """
        accepted = []
        for name in (n for n in self.steps if n in names):
            with self.lease(name):
                step, mark = self.steps[name], read_mark(self.steps[name].folder)
                if self.state(name).kind == "stale" and step.products:
                    mark = mark or Mark({}, hours=None, gpus=step.gpus)
                    now = replace(mark, fingerprint=self.fingerprints[name], status=None)
                    now.write(step.folder)
                    accepted.append(name)
        return accepted

    def begin(self, name: str, device: str) -> None:
        """Note that a step starts; what was made with other settings is set aside."""
        step, mark = self.steps[name], read_mark(self.steps[name].folder)
        if self.state(name).kind == "stale":
            self.set_aside(name)
            mark = None
        hours = mark.hours if mark else 0.0
        if mark is not None and mark.running_since is not None:
            hours = None  # a launcher was killed
        fingerprint = self.fingerprints[name]
        Mark(fingerprint, None, hours, time.time(), step.gpus, device).write(step.folder)

    def end(self, name: str, status: int | None) -> None:
        """Note that a run ended: with 0, with a status of failure, or None where it was stopped."""
        folder = self.steps[name].folder
        mark = read_mark(folder)
        assert mark is not None
        hours = mark.hours
        if hours is not None and mark.running_since is not None:
            hours += (time.time() - mark.running_since) / 3600
        replace(mark, status=status or None, hours=hours, running_since=None).write(folder)

    def set_aside(self, name: str) -> Path | None:
        """Move a step's folder and mark out of the suite's; return where to, None if there is none.

        Nothing is deleted: the folder OUT.stale holds it.
        """
        step = self.steps[name]
        mark_path(step.folder).unlink(missing_ok=True)
        if not step.folder.exists():
            return None
        place = _free(self.out.with_name(f"{self.out.name}.stale") / name)
        place.parent.mkdir(parents=True, exist_ok=True)
        step.folder.rename(place)
        return place

    def records(self) -> dict[str, list[Path]]:
        """Return the records of the steps that end in one, none for those that are not done."""
        return {
            name: step.products if self.state(name).kind == "done" else []
            for name, step in self.steps.items()
            if step.cell is not None or isinstance(step.stage, FineTune)
        }

    def log(self, name: str) -> Path:
        """Return the log file of a step."""
        return self.out / "logs" / f"{name.replace('/', '-')}.log"


def _free(path: Path) -> Path:
    return next(place for place in _numbered(path) if not place.exists())


def _numbered(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1
