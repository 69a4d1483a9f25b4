"""A run's validation images through its detector: predictions on disk, figures, speed."""

from pathlib import Path
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from transfer.detection.build import plain
from transfer.detection.data import mapped, test_loader
from transfer.detection.evaluation.evaluator import CocoEvaluator, predict, with_tta
from transfer.detection.prepare import Run, mapper_of


def evaluate(setup: Run, detector: nn.Module, out: Path | None) -> tuple[CocoEvaluator, float]:
    """Predict the validation images, save the predictions below `out` (if any), measure them.

    Returns the evaluator, whose metrics the first process has, and images per second. All processes
    evaluate with the first one's BatchNorm statistics: those that are saved.
    """
    if comm.get_world_size() > 1:
        for buffer in detector.buffers():
            torch.distributed.broadcast(buffer, 0)
    evaluator = evaluator_of(setup, out)
    loader = test_loader(
        setup.val.records,
        mapper_of(setup, training=False),
        batch=setup.config.test.batch_size,
        workers=setup.config.train.workers,
    )
    speed = predict(with_views(setup, detector), loader, evaluator)
    evaluator.evaluate()
    return evaluator, speed


def evaluate_alone(setup: Run, detector: nn.Module, out: Path) -> CocoEvaluator:
    """Evaluate as `evaluate` does, in this process alone and without workers: for few images."""
    evaluator = evaluator_of(setup, out)
    mapper = mapper_of(setup, training=False)
    images: Any = [mapped(mapper, record) for record in setup.val.records]
    loader = DataLoader(images, batch_size=setup.config.test.batch_size, collate_fn=list)
    predict(with_views(setup, detector), loader, evaluator)
    evaluator.measure()
    return evaluator


def evaluator_of(setup: Run, out: Path | None) -> CocoEvaluator:
    """Return the evaluator of a run's validation images, which saves its predictions in `out`."""
    config = setup.config
    return CocoEvaluator(
        setup.val,
        out,
        tasks=("bbox", "segm") if config.model.masks else ("bbox",),
        engine=config.test.engine,
        max_detections=config.model.max_detections,
    )


def with_views(setup: Run, detector: nn.Module) -> nn.Module:
    """Return the detector behind the test-time augmentation of the config, if it has one."""
    tta = setup.config.test.tta
    if tta is None:
        return detector
    assert isinstance(detector, GeneralizedRCNN)
    return with_tta(detector, **plain(tta))
