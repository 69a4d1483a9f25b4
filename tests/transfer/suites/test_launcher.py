"""Launchers: what is missing and nothing else, side by side with others, survivors of failure."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.run.lock import locked
from transfer.suites import launcher as launchers
from transfer.suites.board import Board
from transfer.suites.launcher import Launcher
from transfer.suites.local import LocalExecutor
from transfer.suites.marks import read_mark
from transfer.suites.steps import Step

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


def test_steps_run_after_what_they_need_and_only_once(tmp_path, step, launch):
    needs_a = f"import pathlib; assert pathlib.Path({str(tmp_path / 'a/result.json')!r}).exists()"
    steps = [step("a"), step("b", needs_a, ("a",))]
    launcher = launch(steps)
    assert launcher.done == {"a", "b"}
    assert not launcher.failed
    made = (tmp_path / "a/result.json").stat().st_mtime_ns
    again = launch(steps)
    assert (tmp_path / "a/result.json").stat().st_mtime_ns == made
    assert not again.seconds


def test_a_failed_step_blocks_what_needs_it_and_no_other(step, launch):
    steps = [step("bad", "raise SystemExit(3)"), step("after", "", ("bad",)), step("other")]
    launcher = launch(steps, jobs=1)
    assert launcher.failed == {"bad": 3}
    assert launcher.state("after") == "blocked"
    assert launcher.state("other") == "done"


def test_a_failed_step_is_left_alone_until_it_is_to_be_retried(tmp_path, step, launch):
    log = tmp_path / "log"
    fails_once = f"import os; f = open({str(log)!r}, 'a'); f.write('x'); f.close()\n"
    fails_once += f"if len(open({str(log)!r}).read()) == 1: raise SystemExit(3)"
    steps = [step("bad", fails_once)]
    assert launch(steps).failed == {"bad": 3}
    assert launch(steps).failed == {"bad": None}
    assert log.read_text() == "x"
    Board(steps, tmp_path).forget(["bad"], aside=False)
    assert launch(steps).done == {"bad"}


def test_a_step_that_ends_well_without_its_product_has_failed(tmp_path, launch):
    steps = [Step("empty", ("-c", ""), tmp_path / "empty" / "result.json")]
    assert launch(steps).failed == {"empty": 0}
    assert Board(steps, tmp_path).state("empty").kind == "failed"


def test_only_what_is_chosen_runs(step, launch):
    launcher = launch([step("a"), step("b")], only={"b"})
    assert launcher.done == {"b"}
    assert launcher.state("a") == "left out"


def test_a_pretraining_that_fails_with_data_workers_ends(tmp_path, step, launch):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(8):
        image = Image.fromarray(rng.integers(0, 255, (72, 72, 3), dtype=np.uint8))
        image.save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "recipe.py").write_text(RECIPE)
    out = tmp_path / "run"
    (out / "state.pt" / "taken").mkdir(parents=True)  # the state of step 1 cannot be written
    tool = [ROOT / "tools/pretrain.py", tmp_path / "recipe.py", "--resume"]
    command = map(str, [*tool, "--data", tmp_path / "images", "--out", out])
    failing = Step("run", tuple(command), out / "encoder.safetensors")
    launcher = launch([failing, step("after", "", ("run",))], jobs=1, limit_s=120)
    assert launcher.failed.keys() == {"run"}
    assert launcher.state("after") == "blocked"
    assert "state.pt" in launcher.board.log("run").read_text()


def waiting_step(step, folder: Path, before: str = "") -> Step:
    """Return a step that tells that it began, and waits to be stopped."""
    code = f"import pathlib, signal, sys, time\n{before}\n"
    return step("a", code + f"pathlib.Path({str(folder / 'began')!r}).touch(); time.sleep(200)")


def started(steps, out: Path) -> Launcher:
    launcher = Launcher(Board(steps, out), LocalExecutor(1), {"a"})
    launcher.poll()
    while not (out / "began").exists():
        assert launcher.running["a"].work.poll() is None
        time.sleep(0.02)
    return launcher


def test_a_step_that_does_not_stop_is_killed(tmp_path, step, monkeypatch):
    monkeypatch.setattr(launchers, "STOP_WAIT_S", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    launcher = started([waiting_step(step, tmp_path, deaf)], tmp_path)
    work = launcher.running["a"].work
    launcher.stop()
    assert work.poll() == -signal.SIGKILL


def test_a_stopped_step_has_not_failed(tmp_path, step):
    steps = [
        waiting_step(step, tmp_path, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))")
    ]
    launcher = started(steps, tmp_path)
    launcher.stop()
    assert Board(steps, tmp_path).state("a").kind == "todo"
    assert read_mark(tmp_path / "a").hours > 0


def test_a_step_that_another_launcher_holds_is_waited_for(tmp_path, step, monkeypatch):
    monkeypatch.setattr(launchers, "ASK_AGAIN_S", 0.0)
    steps = [step("a", f"f = open({str(tmp_path / 'runs')!r}, 'a'); f.write('x'); f.close()")]
    first = Launcher(Board(steps, tmp_path), LocalExecutor(), {"a"})
    second = Launcher(Board(steps, tmp_path), LocalExecutor(), {"a"})
    first.poll()
    second.poll()
    assert second.state("a") == "elsewhere"
    assert not second.finished
    while not (first.finished and second.finished):
        first.poll()
        second.poll()
        time.sleep(0.02)
    assert second.done == {"a"}
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(("age_s", "state"), [(0, "elsewhere"), (3600, "done")])
def test_a_lease_of_another_machine_holds_while_its_heart_beats(tmp_path, step, age_s, state):
    holder = {"host": "another", "process": 1, "heartbeat": time.time() - age_s}
    (tmp_path / ".leases" / "a").mkdir(parents=True)
    (tmp_path / ".leases" / "a" / ".lock.json").write_text(json.dumps(holder))
    launcher = Launcher(Board([step("a")], tmp_path), LocalExecutor(), {"a"})
    launcher.poll()
    while launcher.running:
        launcher.poll()
    assert launcher.state("a") == state


def test_each_step_has_gpus_of_its_own(tmp_path, step, launch):
    seen = tmp_path / "seen"
    code = "import os, time; begin = time.time(); time.sleep(0.3)\n"
    code += f"f = open({str(seen)!r}, 'a'); visible = os.environ['CUDA_VISIBLE_DEVICES']\n"
    code += "f.write(f'{visible} {begin} {time.time()}\\n'); f.close()"
    launch([step(f"s{i}", code) for i in range(4)], jobs=None, gpus=("2", "5"))
    runs = [line.split() for line in seen.read_text().splitlines()]
    assert {gpu for gpu, *_ in runs} == {"2", "5"}
    for gpu in ("2", "5"):
        times = sorted((float(begin), float(end)) for g, begin, end in runs if g == gpu)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


def test_a_step_of_several_gpus_is_started_by_torchrun(tmp_path):
    script = tmp_path / "tool.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "if os.environ['RANK'] == '1':\n"
        "    facts = {k: os.environ[k] for k in ('WORLD_SIZE', 'CUDA_VISIBLE_DEVICES')}\n"
        "    pathlib.Path(sys.argv[1]).parent.mkdir()\n"
        "    pathlib.Path(sys.argv[1]).write_text(json.dumps(facts))\n"
    )
    product = tmp_path / "a" / "result.json"
    steps = [Step("a", (str(script), str(product)), product, gpus=2)]
    launcher = Launcher(Board(steps, tmp_path), LocalExecutor(gpus=("0", "3")), {"a"})
    launcher.run()
    assert launcher.done == {"a"}, launcher.board.log("a").read_text()
    facts = json.loads(product.read_text())
    assert facts == {"WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "0,3"}


def test_a_step_of_more_gpus_than_there_are_is_refused(step):
    with pytest.raises(ValueError, match=r"a takes 8 GPUs and there are 2: give --gpus-per-run 2"):
        LocalExecutor(gpus=("0", "1")).require_fit([step("a", gpus=8)])


@pytest.mark.parametrize("gpus", [1, 2])
def test_steps_die_with_a_killed_launcher(tmp_path, gpus):
    (tmp_path / "tool.py").write_text(
        "import os, pathlib, sys, time\n"
        "place = pathlib.Path(sys.argv[1], 'child' + os.environ.get('RANK', '0'))\n"
        "place.write_text(str(os.getpid())); time.sleep(200)\n"
    )
    script = f"""
from pathlib import Path
from transfer.suites.board import Board
from transfer.suites.launcher import Launcher
from transfer.suites.local import LocalExecutor
from transfer.suites.steps import Step
out = Path({str(tmp_path)!r})
step = Step("a", (str(out / "tool.py"), str(out)), out / "a" / "result.json", gpus={gpus})
Launcher(Board([step], out), LocalExecutor(gpus=("0", "1")), {{"a"}}).run()
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    children = [tmp_path / f"child{rank}" for rank in range(gpus)]
    while not all(child.exists() and child.read_text() for child in children):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(is_alive(int(child.read_text())) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_folder_in_which_a_run_writes_is_waited_for(tmp_path, step, monkeypatch):
    monkeypatch.setattr(launchers, "ASK_AGAIN_S", 0.0)
    launcher = Launcher(Board([step("a")], tmp_path), LocalExecutor(), {"a"})
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "state.pt").touch()
        launcher.poll()
        assert launcher.state("a") == "elsewhere"
        assert not list((tmp_path / ".leases").glob("*"))
    launcher.run()
    assert launcher.done == {"a"}
