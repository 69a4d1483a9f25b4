"""The end of a segmentation run on two evaluation images, before its first step."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from pretrain.run.folder import PREDICTIONS_PICTURE
from pretrain.run.sheet import spread
from pretrain.run.trial import IMAGES, trial
from transfer.results.record import write_result
from transfer.segmentation.iou import PREDICTIONS, figures
from transfer.segmentation.pictures import draw_predictions
from transfer.segmentation.record import record
from transfer.segmentation.runner import TransferRunner

ADVICE = (
    "Change what the evaluation depends on (test_pipeline, test_mode, stride, scale, tta) or mend "
    "the images"
)


def try_end(
    cfg: Config, filled: Config, identity: Mapping[str, Any], runner: TransferRunner
) -> None:
    """Evaluate two images, write the record and the pictures, and forget them.

    This process needs no other for it. Raises ValueError for what would have failed at the end.
    """
    model, data = runner.unwrapped_model, runner.val_dataloader.dataset
    with trial(model, ADVICE) as folder:
        metrics = evaluate_few(runner, model, data, folder)
        write_result(record(cfg, filled, identity, runner, metrics), folder)
        draw_predictions(model, data, folder / PREDICTIONS_PICTURE, IMAGES)


@torch.no_grad()
def evaluate_few(runner: TransferRunner, model: Any, data: Any, folder: Path) -> dict[str, float]:
    """Return the figures of images spread over the evaluation set; 0 where no pixel counts."""
    evaluator = copy.deepcopy(runner.val_loop.evaluator)
    (metric,) = evaluator.metrics
    if metric.output_dir:
        metric.output_dir = folder / PREDICTIONS
    model.eval()
    for index in spread(len(data), IMAGES):
        batch = pseudo_collate([data[index]])
        evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
    if not metric.totals[-1].any():
        return dict.fromkeys(("mIoU", "mAcc", "aAcc"), 0.0)
    return figures(metric.totals)[0]
