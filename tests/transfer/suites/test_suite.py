"""The suite's runner: what is missing and nothing else, survives failure and being killed."""

import runpy
import sys
import time

import pytest

from pretrain.run.lock import locked
from transfer.suites.local import ROOT, Runner, Step
from transfer.suites.steps import plan
from transfer.suites.suite import Cell, Suite


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
