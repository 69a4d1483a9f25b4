"""The table of many records: seconds of tools/make_table.py, its imports and its start included."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.files.lineage import Stage
from transfer.results.protocol import protocol_hash
from transfer.results.record import RECORD_NAME, Cost, Dataset, Environment, Result

TOOL = Path(__file__).resolve().parents[1] / "make_table.py"
METHODS = ("scratch", "spark", "fcmae", "beit", "mae")
BACKBONES = tuple(f"convnextv2_{size}" for size in ("atto", "femto", "pico", "nano", "tiny"))
METRICS = {
    "detection": ("AP_box", "AP50_box", "AP75_box", "AP_mask", "AP50_mask", "AP75_mask"),
    "segmentation": ("mIoU", "mAcc", "aAcc"),
}
CLASSES = {"detection": 80, "segmentation": 150}  # COCO, ADE20K
SETTINGS = 80  # of a shipped detection config


@dataclass(frozen=True)
class Arguments:
    """How many records, and how often their table is made."""

    records: int = 10_000
    """Records of the table."""
    repeats: int = 3
    """Tables that are timed."""


def run(args: Arguments) -> dict[str, Any]:
    """Return the least wall-clock and CPU seconds of the repeats."""
    with tempfile.TemporaryDirectory() as folder:
        size = write_records(Path(folder) / "runs", args.records)
        command = [sys.executable, str(TOOL), f"{folder}/runs", "--out", f"{folder}/table"]
        times = [_timed(command) for _ in range(args.repeats)]
    wall, cpu = (min(column) for column in zip(*times, strict=True))
    print(
        f"{args.records:,} records of {size / args.records / 1024:.1f} KiB: {wall:.2f} s, "
        f"{cpu:.2f} s of CPU (the least of {args.repeats})"
    )
    return {"records": args.records, "bytes": size, "seconds": wall, "cpu_seconds": cpu}


def _timed(command: list[str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_records(folder: Path, count: int) -> int:
    """Write `count` records of every method, backbone and task over seeds; return their bytes."""
    size = 0
    for number, record in enumerate(records(count)):
        path = folder / record.task / record.method / f"run{number}" / RECORD_NAME
        path.parent.mkdir(parents=True)
        size += path.write_text(record.model_dump_json(indent=1))
    return size


def records(count: int) -> Iterator[Result]:
    """Yield `count` made-up records, shaped and sized as those of COCO and ADE20K."""
    rng = np.random.default_rng(0)
    cells = list(product(METRICS, METHODS, BACKBONES))
    for number in range(count):
        task, method, backbone = cells[number % len(cells)]
        yield _record(task, method, backbone, number // len(cells), rng)


def _record(task: str, method: str, backbone: str, seed: int, rng: np.random.Generator) -> Result:
    classes = [f"class {i}" for i in range(CLASSES[task])]
    train = {"model": {f"setting_{i}": i / 7 for i in range(SETTINGS)}, "data": {"images": 117_266}}
    evaluation = {"tta": None, "data": {"images": 5_000, "classes": classes}}
    stages = [] if method == "scratch" else [Stage(method, "IN1K", False, 800, seed=0)]
    values = rng.normal(40 + 5 * bool(stages), 1, len(METRICS[task]))
    packages = dict.fromkeys(("torch", "timm", "detectron2"), "1.0")
    return Result(
        task=task,
        method=method,
        stages=stages,
        backbone=backbone,
        seed=seed,
        weights={
            "sha256": f"{METHODS.index(method)}{BACKBONES.index(backbone)}" * 32,
            "loaded": 340,
            "fresh": [],
        }
        if stages
        else None,
        dataset=Dataset(name="coco_2017", train_images=117_266, val_images=5_000, classes=classes),
        train=train,
        train_hash=protocol_hash(train),
        cost=Cost(hours=float(rng.random())),
        environment=Environment(
            suite_version="0",
            commit="0" * 40,
            dirty=False,
            python="3",
            packages=packages,
            device="cpu",
        ),
        eval=evaluation,
        eval_hash=protocol_hash(evaluation),
        evaluator="made up",
        metrics={name: float(v) for name, v in zip(METRICS[task], values, strict=True)},
        per_class={name: {METRICS[task][0]: float(rng.random())} for name in classes},
    )
