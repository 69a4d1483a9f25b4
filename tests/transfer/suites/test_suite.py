"""The suite's runner: what is missing and nothing else, survives failure and being killed."""

import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.run.lock import locked
from transfer.suites.local import Runner, Step
from transfer.suites.steps import plan
from transfer.suites.suite import Cell, Suite

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """
from pretrain.config import FcmaeSettings, Optimizer, Recipe, RunSettings, Schedule

recipe = Recipe(
    arch="convnextv2_atto",
    arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    method=FcmaeSettings(decoder_width=32),
    image_size=64,
    batch_size=4,
    optimizer=Optimizer(base_lr=1e-3, lr_batch_size=0),
    schedule=Schedule(steps=4, warmup_steps=1),
    run=RunSettings(workers=2, log_steps=1, checkpoint_steps=1, device="cpu"),
)
"""


def step(out, name, code="", needs=()):
    product = out / name
    script = f"{code}\nimport pathlib; pathlib.Path({str(product)!r}).write_text('made')"
    return Step(name, (sys.executable, "-c", script), product, needs)


def drive(runner, limit_s=60):
    deadline = time.monotonic() + limit_s
    runner.poll()
    while not runner.finished:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        runner.poll()


def test_steps_run_after_what_they_need_and_only_once(tmp_path):
    needs_a = f"import pathlib; assert pathlib.Path({str(tmp_path / 'a')!r}).exists()"
    steps = [step(tmp_path, "b", needs_a, ("a",)), step(tmp_path, "a")]
    runner = Runner(steps, tmp_path, jobs=2)
    drive(runner)
    assert runner.done == {"a", "b"}
    assert not runner.failed
    made = (tmp_path / "a").stat().st_mtime_ns
    again = Runner(steps, tmp_path, jobs=2)
    drive(again)
    assert (tmp_path / "a").stat().st_mtime_ns == made
    assert not again.seconds


def test_a_failed_step_blocks_what_needs_it_and_no_other(tmp_path):
    steps = [step(tmp_path, "bad", "raise SystemExit(3)"), step(tmp_path, "after", "", ("bad",)),
             step(tmp_path, "other")]  # fmt: skip
    runner = Runner(steps, tmp_path, jobs=1)
    drive(runner)
    assert runner.failed == {"bad": 3}
    assert runner.state("after") == "blocked"
    assert runner.state("other") == "done"


def test_a_pretraining_that_fails_with_data_workers_ends(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(8):
        image = Image.fromarray(rng.integers(0, 255, (72, 72, 3), dtype=np.uint8))
        image.save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "recipe.py").write_text(RECIPE)
    out = tmp_path / "run"
    (out / "state.pt" / "taken").mkdir(parents=True)  # the state of step 1 cannot be written
    tool = [sys.executable, ROOT / "tools/pretrain.py", tmp_path / "recipe.py", "--resume"]
    command = map(str, [*tool, "--data", tmp_path / "images", "--out", out])
    failing = Step("pretrain", tuple(command), out / "encoder.safetensors")
    runner = Runner([failing, step(tmp_path, "after", "", ("pretrain",))], tmp_path, jobs=1)
    drive(runner, limit_s=120)
    assert runner.failed.keys() == {"pretrain"}
    assert runner.state("after") == "blocked"
    assert "state.pt" in runner.log("pretrain").read_text()


def test_a_step_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("transfer.suites.local.STOP_WAIT_S", 0.5)
    deaf = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += f"pathlib.Path({str(tmp_path / 'deaf')!r}).touch(); time.sleep(200)"
    runner = Runner([step(tmp_path, "a", deaf)], tmp_path, jobs=1)
    runner.poll()
    (process, _) = runner.running["a"]
    while not (tmp_path / "deaf").exists():
        assert process.poll() is None
        time.sleep(0.02)
    runner.stop()
    assert process.returncode == -signal.SIGKILL


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    drive(Runner([step(tmp_path, "a")], tmp_path, jobs=1))
    with pytest.raises(ValueError, match="made with other settings: a"):
        Runner([step(tmp_path, "a", "x = 1")], tmp_path, jobs=1)


def test_one_suite_at_a_time(tmp_path):
    tool = runpy.run_path(str(ROOT / "tools" / "run_suite.py"))
    arguments = tool["Arguments"](ROOT / "configs" / "suites" / "demo.py", tmp_path)
    with locked(tmp_path), pytest.raises(ValueError, match=r"writes in .*: wait for it"):
        tool["main"](arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_names_a_missing_config_is_refused(tmp_path):
    suite = Suite(cells=(Cell("configs/pretrain/nothing.py", "configs/detection/nothing.py"),))
    with pytest.raises(FileNotFoundError, match=r"nothing\.py"):
        plan(suite, tmp_path)
