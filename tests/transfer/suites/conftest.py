"""Steps of a suite that take no time: each writes the file that it ends in."""

import time
from pathlib import Path

import pytest

from transfer.suites.board import Board
from transfer.suites.launcher import Launcher
from transfer.suites.local import LocalExecutor
from transfer.suites.steps import Step


def quick_step(out: Path, name: str, code: str = "", needs=(), settings=None, **more) -> Step:
    product = out / name / "result.json"
    script = f"{code}\nimport pathlib; p = pathlib.Path({str(product)!r})\n"
    script += "p.parent.mkdir(parents=True, exist_ok=True); p.write_text('{\"made\": 1}')"
    return Step(name, ("-c", script), product, tuple(needs), settings or {}, **more)


def drive(launcher: Launcher, limit_s: float = 60) -> Launcher:
    deadline = time.monotonic() + limit_s
    launcher.poll()
    while not launcher.finished:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        launcher.poll()
    return launcher


@pytest.fixture
def step(tmp_path):
    return lambda name, *args, **more: quick_step(tmp_path, name, *args, **more)


@pytest.fixture
def launch(tmp_path):
    """Return what runs steps to their end and gives back the launcher."""

    def run(steps, jobs=2, gpus=(), only=None, limit_s=60):
        board = Board(steps, tmp_path)
        launcher = Launcher(board, LocalExecutor(jobs, gpus), only or board.steps)
        return drive(launcher, limit_s)

    return run
