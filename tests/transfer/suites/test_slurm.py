"""Steps as jobs of a cluster, with a stand-in for Slurm's commands."""

import os
import time
from pathlib import Path

import pytest

from tests import slurm_stand_in
from tests.transfer.suites.conftest import quick_step
from transfer.suites.board import Board
from transfer.suites.slurm import SlurmLauncher

ROOT = Path(__file__).resolve().parents[3]
HOUR = {"time": 60}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return the folder in which the stand-in keeps its jobs."""
    slurm_stand_in.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(tmp_path / "cluster"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "cluster").mkdir()
    yield tmp_path / "cluster"
    for number in slurm_stand_in.numbers():
        if slurm_stand_in.read(number)["state"] in slurm_stand_in.ALIVE:
            slurm_stand_in.scancel(number)


def counting(out: Path, name: str, after: str = "", needs=()):
    """Return a step that notes each of its runs."""
    note = f"f = open({str(out / 'runs')!r}, 'a'); f.write('{name} '); f.close()\n"
    return quick_step(out, name, note + after, needs)


def watch(launcher: SlurmLauncher, limit_s: float = 200) -> SlurmLauncher:
    launcher.submit()
    deadline = time.monotonic() + limit_s
    while not launcher.finished:
        assert time.monotonic() < deadline, launcher.queue
        time.sleep(0.2)
        launcher._look()
    return launcher


@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(400)
def test_jobs_wait_for_those_that_they_need_and_none_is_submitted_twice(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    steps = [
        counting(out, "pre"),
        counting(out, "cell", "", ("pre",)),
        counting(out, "bad", "raise SystemExit(3)"),
        counting(out, "after", "", ("bad",)),
    ]
    first = SlurmLauncher(Board(steps, out), steps_of(steps), HOUR)
    first.submit()
    second = watch(SlurmLauncher(Board(steps, out), steps_of(steps), HOUR))
    assert second.done == {"pre", "cell"}
    assert second.failed.keys() == {"bad"}
    assert second.state("after") == "blocked"
    assert sorted((out / "runs").read_text().split()) == ["bad", "cell", "pre"]
    assert len(slurm_stand_in.numbers()) == 4
    flags = [slurm_stand_in.read(n)["flags"] for n in slurm_stand_in.numbers()]
    assert [f.get("dependency") for f in flags] == [None, "afterok:1", None, "afterok:3"]
    assert all("kill-on-invalid-dep" in f for f in flags)


def steps_of(steps) -> list[str]:
    return [step.name for step in steps]


SAVES_WHEN_ASKED = """
import pathlib, signal, sys, time
state = pathlib.Path({state!r})

def stop(*_):
    state.write_text("saved")
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
pathlib.Path({began!r}).touch()
while not state.exists():
    time.sleep(0.1)
"""


@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(400)
def test_a_job_whose_time_is_up_saves_and_is_requeued_and_resumes(tmp_path):
    out, state, began = (tmp_path / name for name in ("out", "state", "began"))
    out.mkdir()
    code = SAVES_WHEN_ASKED.format(state=str(state), began=str(began))
    steps = [counting(out, "long", code)]
    launcher = SlurmLauncher(Board(steps, out), ["long"], HOUR)
    launcher.submit()
    wait_for(began)
    slurm_stand_in.time_is_up("1")
    assert watch(launcher).done == {"long"}
    assert state.read_text() == "saved"
    assert slurm_stand_in.read("1")["restarts"] == 1
    assert (out / "runs").read_text() == "long long "


def wait_for(file: Path, limit_s: float = 200) -> None:
    deadline = time.monotonic() + limit_s
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("cluster")
def test_a_job_that_is_cancelled_has_failed_and_can_be_submitted_again(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    steps = [quick_step(out, "a", "import time; time.sleep(100)")]
    launcher = SlurmLauncher(Board(steps, out), ["a"], HOUR)
    launcher.submit()
    assert launcher.state("a") == "queued"
    while slurm_stand_in.read("1")["state"] != "RUNNING":
        time.sleep(0.05)
    slurm_stand_in.scancel("1")
    launcher._look()
    assert launcher.state("a") == "failed"
    again = SlurmLauncher(Board(steps, out), ["a"], HOUR)
    assert again.state("a") == "waiting"
    again.on_gpus = False
    again.submit()
    assert slurm_stand_in.numbers() == ["1", "2"]
    flags = [slurm_stand_in.read(number)["flags"] for number in ("1", "2")]
    assert [f.get("gpus-per-node") for f in flags] == ["1", None]


@pytest.mark.usefixtures("cluster")
def test_settings_that_sbatch_does_not_have_are_refused(tmp_path, step):
    board = Board([step("a")], tmp_path)
    with pytest.raises(ValueError, match=r"needs --slurm time=MINUTES, more than 12"):
        SlurmLauncher(board, ["a"], {"time": 5})
    with pytest.raises(ValueError, match="partitoin"):
        SlurmLauncher(board, ["a"], {**HOUR, "partitoin": "gpu"}).submit()


def test_without_slurm_it_says_so(tmp_path, step, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no squeue here"):
        SlurmLauncher(Board([step("a")], tmp_path), ["a"], HOUR)
