"""Run what is missing: each step once, by whichever launcher of the suite comes first to it."""

import signal
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pretrain.run.stop import status_of_signal
from transfer.suites.board import Board
from transfer.suites.steps import Step

STOP_WAIT_S = 300  # for a step at work to finish what it must and save
ASK_AGAIN_S = 1.0  # after another launcher held a step
STOPPED = tuple(status_of_signal(n) for n in (signal.SIGTERM, signal.SIGINT))


class Work(Protocol):
    """A step at work."""

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def ask_to_stop(self) -> None:
        """Ask the step to save and end."""

    def kill(self) -> None:
        """End the step at once, and wait until it has."""


class Executor(Protocol):
    """Where steps run."""

    device: str

    def has_room(self, step: Step) -> bool:
        """Return whether the step could start now."""

    def start(self, step: Step, log: Path) -> Work:
        """Start the step; what it says is appended to `log`."""


class Progress(Protocol):
    """What shows how far a suite is."""

    board: Board
    only: set[str]
    done: set[str]
    failed: dict[str, int | None]  # name -> exit status, None: not known here

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do."""

    def run(self) -> None:
        """Go on until nothing is left to do."""

    def stop(self) -> None:
        """Leave the work in a state from which it can be taken up."""

    def state(self, name: str) -> str:
        """Return how a step stands, in a word."""

    def elapsed_s(self, name: str) -> float | None:
        """Return the seconds a step has run in this call, None if it has not."""


@dataclass
class Running:
    """A step at work, and its lease."""

    work: Work
    lease: ExitStack
    started: float


class Launcher:
    """Runs the steps `only` of a board; `poll` moves it on."""

    def __init__(self, board: Board, executor: Executor, only: Collection[str]) -> None:
        self.board, self.executor = board, executor
        self.only = set(only)
        self.running: dict[str, Running] = {}
        self.elsewhere: dict[str, float] = {}  # name -> when to ask again
        self.done: set[str] = set()
        self.failed: dict[str, int | None] = {}  # name -> exit status, None: in an earlier call
        self.seconds: dict[str, float] = {}
        for name in self.only:
            self._look(name)

    @property
    def finished(self) -> bool:
        """Return whether no step runs, here or elsewhere, and no other can be started."""
        return not (self.running or self.elsewhere or self._ready())

    def poll(self) -> None:
        """Collect steps that ended and start ready ones."""
        for name in list(self.running):
            self._collect(name)
        for name in self._ready():
            if self.executor.has_room(self.board.steps[name]):
                self._try_to_start(name)

    def run(self) -> None:
        """Poll until nothing is left to do."""
        self.poll()
        while not self.finished:
            time.sleep(0.2)
            self.poll()

    def stop(self) -> None:
        """Ask every running step to save and end; kill those that do not within STOP_WAIT_S.

        A killed step resumes from its last checkpoint: files are written atomically.
        """
        for item in self.running.values():
            item.work.ask_to_stop()
        deadline = time.monotonic() + STOP_WAIT_S
        for name, item in list(self.running.items()):
            while item.work.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            if item.work.poll() is None:
                item.work.kill()
            self._release(name, None)

    def state(self, name: str) -> str:
        """Return done, failed, running, elsewhere, waiting, left out, or blocked (by a failure)."""
        if name in self.done:
            return "done"
        if name in self.failed:
            return "failed"
        if name in self.running:
            return "running"
        if name in self.elsewhere:
            return "elsewhere"
        if name not in self.only:
            return "left out"
        needs = self.board.steps[name].needs
        return (
            "blocked" if any(self.state(n) in ("failed", "blocked") for n in needs) else "waiting"
        )

    def elapsed_s(self, name: str) -> float | None:
        """Return the seconds a step has run in this call, None if it has not."""
        if name in self.running:
            return time.monotonic() - self.running[name].started
        return self.seconds.get(name)

    def _ready(self) -> list[str]:
        """Return the steps that nothing keeps from starting."""
        return [
            name
            for name, step in self.board.steps.items()
            if self.state(name) in ("waiting", "elsewhere")
            and all(need in self.done for need in step.needs)
        ]

    def _look(self, name: str) -> str:
        """Take over how a step stands on disk."""
        kind = self.board.state(name).kind
        if kind == "done":
            self.done.add(name)
        elif kind == "failed":
            self.failed[name] = None
        return kind

    def _try_to_start(self, name: str) -> None:
        if time.monotonic() < self.elsewhere.get(name, 0):
            return
        lease = self.board.try_lease(name)
        if lease is None or self.board.is_written(name):
            self.elsewhere[name] = time.monotonic() + ASK_AGAIN_S
            if lease is not None:
                lease.close()
            return
        self.elsewhere.pop(name, None)
        if self._look(name) in ("done", "failed"):  # another launcher was faster
            lease.close()
            return
        step, log = self.board.steps[name], self.board.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.board.begin(name, self.executor.device)
        self.running[name] = Running(self.executor.start(step, log), lease, time.monotonic())

    def _collect(self, name: str) -> None:
        status = self.running[name].work.poll()
        if status is None:
            return
        if status == 0 and self.board.steps[name].products:
            self.done.add(name)
            self._release(name, 0)
            return
        self.failed[name] = status
        self._release(name, None if status in STOPPED else status or 1)

    def _release(self, name: str, status: int | None) -> None:
        item = self.running.pop(name)
        self.seconds[name] = time.monotonic() - item.started
        self.board.end(name, status)
        item.lease.close()
