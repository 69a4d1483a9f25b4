"""A run's validation images through its detector: predictions on disk, figures, speed."""

from pathlib import Path

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm
from torch import nn

from transfer.detection.build import plain
from transfer.detection.data import test_loader
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
    settings = setup.config.test
    evaluator = CocoEvaluator(
        setup.val,
        out,
        tasks=("bbox", "segm") if setup.config.model.masks else ("bbox",),
        engine=settings.engine,
        max_detections=setup.config.model.max_detections,
    )
    loader = test_loader(
        setup.val.records,
        mapper_of(setup, training=False),
        batch=settings.batch_size,
        workers=setup.config.train.workers,
    )
    model = detector
    if settings.tta is not None:
        assert isinstance(detector, GeneralizedRCNN)
        model = with_tta(detector, **plain(settings.tta))
    speed = predict(model, loader, evaluator)
    evaluator.evaluate()
    return evaluator, speed
