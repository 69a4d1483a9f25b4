"""An interrupted run ends as an unbroken one: weights, optimizer, log, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.config import Recipe
from pretrain.files.encoder_file import read_encoder
from pretrain.files.training_state import read_state
from pretrain.run import folder
from pretrain.run.log import TIMED
from pretrain.run.loop import Loop
from pretrain.run.stop import Stopped
from pretrain.train import train

ROOT = Path(__file__).resolve().parents[2]


def log_lines(out: Path) -> list[dict]:
    """The log without what depends on the machine's speed."""
    lines = [json.loads(line) for line in (out / folder.LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def text_lines(out: Path) -> list[str]:
    """log.txt without the time of day and the speed in brackets."""
    lines = (out / folder.TEXT_LOG).read_text().splitlines()
    return [line[len("2026-01-31 12:00:00 ") :].partition("  [")[0] for line in lines]


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, likewise."""
    board = EventAccumulator(str(out / folder.TENSORBOARD)).Reload()
    tags = set(board.Tags()["scalars"]) - set(TIMED)
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags}


def assert_equal(one: object, other: object, where: str = "") -> None:
    """Equality of nested containers of tensors, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}.{i}")
    else:
        assert one == other, where


def assert_same_run(one: Path, other: Path) -> None:
    first, second = (read_state(out / folder.STATE, "pretraining") for out in (one, other))
    for name in ("model", "optimizer", "step", "values"):
        assert_equal(first[name], second[name], name)
    assert_equal(read_encoder(one / folder.ENCODER)[0], read_encoder(other / folder.ENCODER)[0])
    assert (one / folder.ENCODER).read_bytes() == (other / folder.ENCODER).read_bytes()
    assert log_lines(one) == log_lines(other)
    assert text_lines(one) == text_lines(other)
    assert curves(one) == curves(other)


@pytest.mark.parametrize("name", ["fcmae_recipe", "spark_recipe"])
def test_a_broken_run_ends_as_an_unbroken_one(
    name: str,
    request: pytest.FixtureRequest,
    photos: Path,
    tmp_path: Path,
    break_off: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe: Recipe = request.getfixturevalue(name)
    recipe = replace(recipe, run=replace(recipe.run, log_steps=3, checkpoint_steps=2))
    train(recipe, data=photos, out=tmp_path / "whole")
    for at in (1, 3, 5):  # before the first checkpoint, amid log lines, after the last checkpoint
        break_off(at)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, data=photos, out=tmp_path / "broken", resume=True)
        assert not (tmp_path / "broken" / folder.ENCODER).exists()
    monkeypatch.undo()
    train(recipe, data=photos, out=tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_sigterm_saves_and_ends(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(fcmae_recipe, run=replace(fcmae_recipe.run, log_steps=1))
    train(recipe, data=photos, out=tmp_path / "whole")
    whole = Loop.train_step

    def terminated(self: Loop, step: int, batches: Any) -> None:
        whole(self, step, batches)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "train_step", terminated)
        with pytest.raises(Stopped) as stopped:
            train(recipe, data=photos, out=tmp_path / "stopped")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert read_state(tmp_path / "stopped" / folder.STATE, "pretraining")["step"] == 3
    assert not (tmp_path / "stopped" / folder.ENCODER).exists()
    train(recipe, data=photos, out=tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_killed_and_terminated_with_workers(photos: Path, tmp_path: Path) -> None:
    """Killed outright, then SIGTERM to the whole group, data workers included, as launchers do."""
    recipe = tmp_path / "recipe.py"
    recipe.write_text(KILLED_RECIPE)
    command = [sys.executable, str(ROOT / "tools" / "pretrain.py"), str(recipe)]
    command += ["--data", str(photos)]
    whole, out = tmp_path / "whole", tmp_path / "killed"

    def run(*more: str, out: Path = out) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, "--out", str(out), *more],
            env=environment,
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
            start_new_session=True,
        )

    def after_the_next_checkpoint(process: subprocess.Popen) -> None:
        before = state.stat().st_mtime_ns if state.is_file() else 0
        while process.poll() is None:
            if state.is_file() and state.stat().st_mtime_ns != before:
                return
            time.sleep(0.005)

    state = out / folder.STATE
    killed = run()
    after_the_next_checkpoint(killed)
    killed.kill()
    killed.wait()
    terminated = run("--resume")
    after_the_next_checkpoint(terminated)
    os.killpg(terminated.pid, signal.SIGTERM)
    assert terminated.wait() == 128 + signal.SIGTERM
    assert not (out / folder.ENCODER).exists()
    assert run("--resume").wait() == 0
    assert run(out=whole).wait() == 0
    assert_same_run(whole, out)


KILLED_RECIPE = """
from pretrain.config import FcmaeSettings, Optimizer, Recipe, RunSettings, Schedule

recipe = Recipe(
    arch="convnextv2_atto",
    arch_args={"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]},
    method=FcmaeSettings(decoder_width=32),
    image_size=64,
    drop_path_rate=0.2,
    batch_size=8,
    optimizer=Optimizer(base_lr=1e-3, lr_batch_size=0),
    schedule=Schedule(steps=60, warmup_steps=2),
    run=RunSettings(workers=2, log_steps=3, checkpoint_steps=10, device="cpu"),
)
"""
