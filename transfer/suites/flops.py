"""An estimate of training from multiply-adds, for steps of which no run is known.

It takes the speed that a device keeps up in such runs from the user: nothing here is measured.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from transfer.suites.settings import data_root
from transfer.suites.steps import Step, find_config, options_of
from transfer.tasks import task_of_config

PASSES = 3  # forward, and about twice that backward
OPERATIONS = 2  # of a multiply-add
COCO_CLASSES = 80


def hours(step: Step, tflops: float) -> float | None:
    """Return a cell's hours of training on its devices, each of which keeps up `tflops` TFLOP/s.

    Evaluation and reading of data are left out. None for what is not a cell, or has no
    architecture of its own.
    """
    if step.cell is None or "--eval-only" in step.command:
        return None
    config = find_config(step.cell.task)
    count = training_multiply_adds(task_of_config(config).name, config, options_of(step.cell))
    if count is None:
        return None
    return OPERATIONS * count / (tflops * 1e12 * max(1, step.gpus)) / 3600


@lru_cache(maxsize=64)
def training_multiply_adds(kind: str, config: Path, options: tuple[str, ...]) -> float | None:
    """Return the multiply-adds of all of a task's training; None without an architecture.

    Detection is counted at the size of its tests, as the papers do; segmentation at its crop.
    """
    with data_root(Path()):
        return _COUNTS[kind](config, (*options, "weights=none"))


def _detection(config: Path, options: Sequence[str]) -> float | None:
    import torch

    from transfer.detection.build import build_detector
    from transfer.detection.config import load_config
    from transfer.detection.estimate import count, counting_size

    resolved = load_config(config, list(options))
    sides = [step for step in resolved.input.test if "short_edge_length" in step]
    if resolved.arch is None or not sides:
        return None
    with torch.device("meta"):
        model = build_detector(resolved, COCO_CLASSES).model
    size = counting_size(sides[0].short_edge_length, sides[0].max_size)
    image = sum(count(model, size).multiply_adds.values())
    return PASSES * image * resolved.train.batch_size * resolved.schedule.steps


def _segmentation(config: Path, options: Sequence[str]) -> float | None:
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import count

    filled = fill_in(load_config(config, options))
    if filled["arch"] is None:
        return None
    return PASSES * count(filled).multiply_adds * filled["max_iters"] * filled["batch_size"]


_COUNTS: dict[str, Callable[[Path, Sequence[str]], float | None]] = {
    "detection": _detection,
    "segmentation": _segmentation,
}
