"""A run folder: whose it is, whether it is finished, and one writer at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pretrain.run import lock
from pretrain.run.folder import DATA, ENCODER, RECORD, RUN, STATE, RunFolder, is_whole

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {"seed": 0, "schedule": {"steps": 6}, "run": {"workers": 2}, "pixels": (1, 2)}


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    """A run with a state, not finished."""
    folder = RunFolder(tmp_path / "out", RECORD, free=("run",))
    folder.begin(SETTINGS)
    (folder.path / STATE).write_bytes(b"state")
    return folder


def test_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out", RECORD)
    assert folder.open(SETTINGS, resume=False) == "new"
    assert not folder.path.exists()
    folder.path.mkdir()
    (folder.path / DATA).write_text("{}")  # the images are checked first
    assert folder.open(SETTINGS, resume=False) == "new"
    assert folder.open(SETTINGS, resume=True) == "new"


def test_a_run_is_resumed_with_its_own_settings_only(begun: RunFolder) -> None:
    with pytest.raises(ValueError, match="not empty: continue its run with --resume"):
        begun.open(SETTINGS, resume=False)
    assert begun.open({**SETTINGS, "run": {"workers": 9}}, resume=True) == "resume"
    other = {**SETTINGS, "seed": 3, "schedule": {"steps": 7}}
    with pytest.raises(ValueError, match=r"\(schedule.steps: 6 -> 7; seed: 0 -> 3\)"):
        begun.open(other, resume=True)
    (begun.path / RECORD).write_text(json.dumps({"task": "detection"}))
    assert begun.open(SETTINGS, resume=True) == "finished"


def test_a_folder_that_is_no_run_is_refused(begun: RunFolder, tmp_path: Path) -> None:
    (begun.path / RUN).write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        begun.open(SETTINGS, resume=True)
    (begun.path / RUN).unlink()
    with pytest.raises(ValueError, match=r"holds a run without run\.json"):
        begun.open(SETTINGS, resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        RunFolder(tmp_path / "file", RECORD).open(SETTINGS, resume=True)
    with (
        pytest.raises(ValueError, match="is a file: give a folder"),
        RunFolder(tmp_path / "file", RECORD).lock(),
    ):
        pass


def test_an_empty_or_cut_file_is_not_a_finished_run(tmp_path: Path) -> None:
    encoder, record = tmp_path / ENCODER, tmp_path / RECORD
    save_file({"weight": torch.ones(100)}, encoder)
    record.write_text(json.dumps({"task": "detection", "metrics": {"AP_box": 1.0}}))
    for path in (encoder, record):
        assert is_whole(path)
        content = path.read_bytes()
        for size in (0, 5, len(content) - 1):
            path.write_bytes(content[:size])
            assert not is_whole(path)
        path.unlink()
        assert not is_whole(path)


def test_the_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with RunFolder(out, RECORD).lock():
        assert RunFolder(out, RECORD).open(SETTINGS, resume=False) == "new"
        holder = lock.Holder.read(out)
        assert holder is not None
        assert (holder.process, holder.is_alive, holder.is_elsewhere) == (os.getpid(), True, False)
    assert list(tmp_path.iterdir()) == []
    with RunFolder(out, RECORD).lock():
        (out / STATE).touch()
    assert [path.name for path in out.iterdir()] == [STATE]
    with RunFolder(tmp_path / "none", RECORD).lock(first=False):
        assert not (tmp_path / "none").exists()


HOLD = """
import os, sys, time
from pathlib import Path
from pretrain.run.lock import locked
with locked(Path(sys.argv[1])):
    if len(sys.argv) > 2 and os.fork() == 0:  # as a data worker, which may outlive a killed run
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path, *child_seconds: str) -> subprocess.Popen:
    """Start another process that holds the folder."""
    words = [sys.executable, "-c", HOLD, str(folder), *child_seconds]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_and_a_killed_ones_lock_is_taken_over(tmp_path: Path) -> None:
    other = hold(tmp_path, "2")
    for _ in range(2):  # being refused does not break the lock
        with pytest.raises(ValueError, match=f"process {other.pid} on .* writes in"):
            RunFolder(tmp_path, RECORD).lock().__enter__()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / lock.HOLDER).exists()
    with RunFolder(tmp_path, RECORD).lock():
        pass
    assert list(tmp_path.iterdir()) == []


def test_on_another_machine_the_heartbeat_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file system may not carry the kernel's lock from one machine to the other."""
    lock.Holder("elsewhere", 1, time.time() - 100).write(tmp_path)
    with pytest.raises(ValueError, match=r"process 1 on elsewhere .*last heard of 100 s ago"):
        lock.locked(tmp_path).__enter__()
    monkeypatch.setattr(lock, "ABANDONED_S", 90)
    with lock.locked(tmp_path):
        assert lock.Holder.read(tmp_path).process == os.getpid()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    with lock.locked(tmp_path):
        first = lock.Holder.read(tmp_path).heartbeat
        time.sleep(0.3)
        assert lock.Holder.read(tmp_path).heartbeat > first


@pytest.mark.parametrize("module", ["pretrain.command", "pretrain.run.folder", "pretrain.run.stop"])
def test_a_finished_run_is_recognised_without_torch(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'timm'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
