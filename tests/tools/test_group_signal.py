"""A signal to a run's whole process group, as Slurm and terminals send it, with data processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
pytest.importorskip("mmseg")

from tests.transfer.detection.conftest import CONFIG, TINY, draw_split
from tests.transfer.segmentation.conftest import CUSTOM, TINY_NET, write_scenes

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


def detection(folder: Path) -> list[str]:
    overrides = ["train.workers=2", "schedule.steps=5000", "train.checkpoint_steps=5000"]
    for seed, name in enumerate(("train", "val")):
        path, images = draw_split(folder / name, 4, seed)
        overrides += [f"data.{name}_json={path}", f"data.{name}_images={images}"]
    command = ["tools/train_net.py", "--config-file", str(CONFIG), *TINY, *overrides]
    return [*command, f"output_dir={folder / 'out'}"]


def segmentation(folder: Path) -> list[str]:
    for seed in (0, 1):
        write_scenes(folder / "scenes", 4, seed)
    options = [f"data_root={folder / 'scenes'}", "classes=noise,square,stripe"]
    options += ["arch=convnext_atto", TINY_NET, "crop_size=(64, 64)", "scale=(256, 64)"]
    options += ["head_channels=8", "aux_channels=8", "batch_size=4", "workers=2", "log_steps=1"]
    options += ["max_iters=5000", "warmup_iters=2", "checkpoint_steps=5000"]
    place = ["--work-dir", str(folder / "out"), "--cfg-options"]
    return ["tools/train_seg.py", str(CUSTOM), *place, *options]


@pytest.mark.parametrize("run", [detection, segmentation])
def test_a_signal_to_the_group_saves_and_stops(run, tmp_path):
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *run(tmp_path)],
            cwd=ROOT,
            env=ENV,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    log = tmp_path / "out" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, (tmp_path / "said").read_text()
    assert (tmp_path / "out" / "state.pt").is_file()
