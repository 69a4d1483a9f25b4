"""The whole path at its smallest: drawn images -> encoders -> both frameworks -> table."""

import subprocess
import sys
from pathlib import Path

import pytest

from transfer.results.record import find_results, read_result

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
from transfer.suites.suite import Cell, Pretrain, Suite

PRETRAIN = Pretrain(
    "configs/pretrain/shapes_fcmae_convnextv2.py",
    options=("--steps", "3", "--warmup-steps", "1", "--batch-size", "8"),
)
TASKS = {
    "configs/detection/shapes_mask_rcnn.py": ("schedule.steps=4", "schedule.warmup_steps=1"),
    "configs/segmentation/shapes_upernet.py": ("max_iters=4", "warmup_iters=1"),
}
suite = Suite(
    shapes=("--unlabelled", "16", "--train", "8", "--val", "4", "--workers", "1"),
    cells=tuple(
        cell
        for task, options in TASKS.items()
        for cell in (
            Cell(task, PRETRAIN, options, name="fcmae"),
            Cell(task, None, options, like=PRETRAIN),
        )
    ),
)
"""


def run_suite(suite: Path, out: Path) -> str:
    command = [sys.executable, "tools/run_suite.py", str(suite), "--out", str(out), "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)
def test_images_to_table(tmp_path):
    suite, out = tmp_path / "smallest.py", tmp_path / "out"
    suite.write_text(SUITE)
    run_suite(suite, out)
    records = [read_result(path) for path in find_results([out])]
    assert sorted((r.task, r.method) for r in records) == [
        ("detection", "fcmae"),
        ("detection", "scratch"),
        ("segmentation", "fcmae"),
        ("segmentation", "scratch"),
    ]
    for task in ("detection", "segmentation"):
        pretrained, scratch = sorted(
            (r for r in records if r.task == task), key=lambda r: r.method == "scratch"
        )
        assert pretrained.protocol_hash == scratch.protocol_hash
        assert pretrained.backbone_args == scratch.backbone_args
        assert scratch.weights is None
        assert pretrained.weights is not None
    table = (out / "table.md").read_text()
    assert "FCMAE" in table
    assert "missing" not in table
    assert "report.html" in run_suite(suite, out)
    assert (out / "report.html").read_text().count(
        "<img"
    ) == 5  # predictions of four runs, one reconstruction
