"""The command line of tools/train_net.py: exit statuses, and two processes equal one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
import torch

from tests.transfer.detection.conftest import CONFIG, TINY, draw_split
from transfer.detection import checkpoint
from transfer.results.record import read_result

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/train_net.py"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    head = [sys.executable]
    if processes > 1:
        head += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*head, str(TOOL), "--config-file", str(CONFIG), *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=200)


RESNET = ["arch=resnet26", 'arch_args={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}']


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    overrides = []
    for seed, name in enumerate(("train", "val")):
        path, images = draw_split(tmp_path / name, 4, seed)
        overrides += [f"data.{name}_json={path}", f"data.{name}_images={images}"]
    return overrides


def test_a_typo_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = start("optimiser.lr=1", f"output_dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "error: the config has no key 'optimiser.lr'; did you mean 'optimizer.lr'?"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_yaml_config_is_refused_unrun(tmp_path: Path) -> None:
    config, ran = tmp_path / "run.yaml", tmp_path / "ran"
    config.write_text(f'config: !!python/object/apply:os.system ["touch {ran}"]\n')
    done = start("--config-file", str(config), f"output_dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {config}: a config is a Python")
    assert not ran.exists()
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_left_alone_quickly(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"task": "detection"}')
    done = start("--resume", f"output_dir={tmp_path}")
    assert (done.returncode, done.stdout) == (0, f"finished already: {tmp_path}\n")


def test_a_second_writer_is_refused(tmp_path: Path, data: list[str]) -> None:
    """The first is stopped at once by SIGTERM, with its state saved."""
    words = [*TINY, *data, "schedule.steps=100000", f"output_dir={tmp_path / 'out'}"]
    command = [sys.executable, str(TOOL), "--config-file", str(CONFIG), *words]
    first = subprocess.Popen(command, cwd=ROOT, env=ENV, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "out" / "state.pt"
    while not state.is_file() and first.poll() is None:
        time.sleep(0.1)
    second = start(*words, "--resume")
    assert second.returncode == 2
    assert f"error: process {first.pid} on " in second.stderr
    first.terminate()
    assert first.wait(60) == 143, first.communicate()[1][-2000:]
    assert state.is_file()
    assert not list(state.parent.glob(".*"))


def test_ctrl_c_finishes_the_step_and_saves(tmp_path: Path, data: list[str]) -> None:
    """A terminal sends it to the data processes as well."""
    out = tmp_path / "out"
    more = [*TINY, *data, "schedule.steps=5000", "train.workers=1", f"output_dir={out}"]
    command = [sys.executable, str(TOOL), "--config-file", str(CONFIG), *more]
    process = subprocess.Popen(
        [*command, "train.checkpoint_steps=5000"],
        cwd=ROOT,
        env=ENV,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = out / "log.jsonl"
    try:
        while process.poll() is None and not (log.is_file() and log.read_text()):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT, said[-3000:]
    assert "--resume goes on" in said
    steps = len(log.read_text().splitlines())
    assert checkpoint.load(out / "state.pt")["step"] == steps > 0


def test_two_processes_equal_one_that_accumulates(tmp_path: Path, data: list[str]) -> None:
    common = [*TINY, *data, "schedule.steps=2"]
    pair = start(*common, f"output_dir={tmp_path / 'two'}", processes=2)
    assert pair.returncode == 0, pair.stderr[-3000:]
    alone = start(*common, "train.accumulation_steps=2", f"output_dir={tmp_path / 'one'}")
    assert alone.returncode == 0, alone.stderr[-3000:]
    first, second = (
        checkpoint.load(tmp_path / name / "model_final.pth")["model"] for name in ("one", "two")
    )
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-6, msg=name)
    one, two = (read_result(tmp_path / name) for name in ("one", "two"))
    assert (one.cost.devices, two.cost.devices) == (1, 2)
    assert str(one.command).startswith("python tools/train_net.py --config-file configs/")
    assert str(two.command).startswith("torchrun --nproc-per-node 2 tools/train_net.py")
    assert str(two.command).endswith(f"output_dir={tmp_path / 'two'}")


def test_one_process_reads_the_data_and_all_refuse_it(tmp_path: Path, data: list[str]) -> None:
    file = Path(data[0].partition("=")[2])
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "gone.png"
    file.write_text(json.dumps(content))
    done = start(*TINY, *data, f"output_dir={tmp_path / 'out'}", processes=2)
    assert done.returncode != 0
    assert done.stderr.count("the data has 1 error") == 2
    assert not (tmp_path / "out").exists()


def test_all_processes_evaluate_the_model_that_is_saved(tmp_path: Path, data: list[str]) -> None:
    """Plain BatchNorm: in training each process has statistics of its own images."""
    common = [*TINY, *data, *RESNET, "backbone_norm=BN", "schedule.steps=2", "test.pictures=0"]
    common += [f"output_dir={tmp_path / 'out'}", "train.batch_size=4"]
    done = start(*common, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    other = "model.nms_threshold=0.5000001"  # the same evaluation again would write nothing
    again = start("--eval-only", *common, other)
    assert again.returncode == 0, again.stderr[-3000:]
    first, second = (
        json.loads(path.read_text())
        for path in (
            tmp_path / "out/coco_instances_results.json",
            *tmp_path.glob("out/evals/*/coco_instances_results.json"),
        )
    )
    assert len(first) == len(second) > 10
    for ours, theirs in zip(first, second, strict=True):
        assert ours["image_id"] == theirs["image_id"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


def test_sync_bn_sees_the_images_of_all_processes(tmp_path: Path, data: list[str]) -> None:
    """Losses are averages over a process' own boxes, so only the statistics can be compared."""
    common = [*TINY, *data, *RESNET, "schedule.steps=1"]
    norms = ("backbone_norm", "model.fpn_norm", "model.box_norm", "model.mask_norm")
    common += [f"{key}=SyncBN" for key in norms]
    means = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = start(*common, f"output_dir={out}", processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        model = checkpoint.load(out / "model_final.pth")["model"]
        means.append({n: t for n, t in model.items() if "backbone" in n and "running_mean" in n})
    assert len(means[0]) > 10
    for name, mean in means[0].items():
        assert mean.abs().max() > 0
        torch.testing.assert_close(means[1][name], mean, rtol=1e-4, atol=1e-6, msg=name)
