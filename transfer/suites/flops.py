"""An estimate of training from multiply-adds, for steps of which no run is known.

It takes the speed that a device keeps up in such runs from the user: nothing here is measured.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from transfer.suites.commands import config_of, config_path, options_of, task_of
from transfer.suites.settings import data_root
from transfer.suites.steps import Step
from transfer.suites.suite import FineTune

PASSES = 3  # forward, and about twice that backward
OPERATIONS = 2  # of a multiply-add
COCO_CLASSES = 80
CLASSES = 1000  # of images; the last layer hardly counts


def hours(step: Step, tflops: float) -> float | None:
    """Return the hours of training on the step's devices, each of which keeps up `tflops` TFLOP/s.

    Evaluation and reading of data are left out. None for what does not train on labels, or has no
    architecture of its own.
    """
    trained = _trained(step)
    count = training_multiply_adds(*trained) if trained else None
    if count is None:
        return None
    return OPERATIONS * count / (tflops * 1e12 * max(1, step.gpus)) / 3600


def _trained(step: Step) -> tuple[str, Path, tuple[str, ...]] | None:
    """Return task, config and options of a step that trains on labels."""
    if isinstance(step.stage, FineTune):
        return "classification", config_path(step.stage.config), step.stage.options
    if step.cell is None or "--eval-only" in step.command:
        return None
    kind = task_of(step.cell).name
    return (kind, config_of(step.cell), options_of(step.cell)) if kind in _COUNTS else None


@lru_cache(maxsize=64)
def training_multiply_adds(kind: str, config: Path, options: tuple[str, ...]) -> float | None:
    """Return the multiply-adds of all of a task's training; None without an architecture.

    Detection is counted at the size of its tests, as the papers do; segmentation at its crop;
    classification at its input. None as well for epochs of images whose number is not known.
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


def _classification(config: Path, options: Sequence[str]) -> float | None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from transfer.classification.classifier import Classifier
    from transfer.classification.config import load_config
    from transfer.classification.record import IMAGES

    resolved = load_config(config, options)
    schedule, epoch = resolved.schedule, IMAGES.get(resolved.dataset)
    if resolved.arch is None or (schedule.steps is None and epoch is None):
        return None
    images = (schedule.steps or 0) * resolved.batch_size or schedule.epochs * (epoch or 0)
    side = resolved.images.input_size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = Classifier(resolved.arch, resolved.arch_args, CLASSES, resolved).eval()
        with sdpa_kernel(SDPBackend.MATH):  # the counter does not know every fused kernel
            model(torch.empty(1, 3, side, side))
    return PASSES * images * counter.get_total_flops() / OPERATIONS


_COUNTS: dict[str, Callable[[Path, Sequence[str]], float | None]] = {
    "detection": _detection,
    "segmentation": _segmentation,
    "classification": _classification,
}
