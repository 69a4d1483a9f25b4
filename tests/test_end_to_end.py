"""The whole path at its smallest: drawn images -> encoders -> both frameworks -> table."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.results.record import find_results, read_result
from transfer.suites.board import Board
from transfer.suites.steps import plan
from transfer.suites.suite import load_suite
from transfer.suites.table import write_table

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


CHAIN = """
from transfer.suites.suite import Cell, FineTune, Pretrain, Suite

PRETRAIN = Pretrain(
    "configs/pretrain/shapes_fcmae_convnextv2.py",
    options=("--steps", "3", "--warmup-steps", "1", "--batch-size", "8"),
)
SHORT = ("steps=3", "warmup_steps=1", "batch_size=8", "input_size=32")
FINETUNE = FineTune("configs/classification/shapes_objects.py", PRETRAIN, SHORT)
UPERNET = "configs/segmentation/shapes_upernet.py"
OPTIONS = ("max_iters=3", "warmup_iters=1", "train_share=0.5")
suite = Suite(
    shapes=("--for", "demo", "--unlabelled", "16", "--train", "8", "--val", "4", "--workers", "1"),
    cells=(
        Cell(UPERNET, FINETUNE, OPTIONS),
        Cell(UPERNET, PRETRAIN, OPTIONS),
        Cell("probe", PRETRAIN, ("input_size=32", "epochs=2", "workers=0")),
    ),
)
"""


def run_here(step, monkeypatch) -> None:
    """Run a step's command in this process, so that torch is imported once."""
    for name, value in step.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", list(step.command))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(step.command[0], run_name="__main__")
    assert not ended.value.code, step.name


@pytest.mark.timeout(900)
def test_labels_between_pretraining_and_transfer_are_told(tmp_path, monkeypatch):
    (tmp_path / "chain.py").write_text(CHAIN)
    out = tmp_path / "out"
    board = Board(plan(load_suite(tmp_path / "chain.py"), out), out)
    for name, step in board.steps.items():
        board.begin(name, "cpu")
        run_here(step, monkeypatch)
        board.end(name, 0)
    assert {state.kind for state in board.states().values()} == {"done"}
    table = write_table(board, ())
    records = {(r.task, r.method): r for r in map(read_result, find_results([out]))}
    # the stage's own record is the accuracy of what it started from
    assert records.keys() == {
        ("segmentation", "fcmae"),
        ("segmentation", "fcmae+supervised"),
        ("classification", "fcmae"),
        ("probe", "fcmae"),
    }
    once, twice = (records["segmentation", m] for m in ("fcmae", "fcmae+supervised"))
    assert once.train_hash == twice.train_hash
    assert once.dataset.train_images == 4
    assert [stage.labels for stage in twice.stages] == [False, True]
    header, rows = cells_of(table)
    for title in ("Labels before transfer", "mIoU", "top1", "linear_top1", "knn_top1"):
        assert title in header
    labels = {row[0]: row[header.index("Labels before transfer")] for row in rows}
    assert labels.keys() == {"FCMAE", "FCMAE + supervised"}
    assert labels["FCMAE"] == "no"
    assert labels["FCMAE + supervised"].startswith("shapes, ")
    accuracy = {row[0]: row[header.index("top1")] for row in rows}
    assert accuracy["FCMAE + supervised"] == "missing"
    assert accuracy["FCMAE"] != "missing"


def cells_of(table: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a Markdown table's first lines."""
    lines = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return header, rows
