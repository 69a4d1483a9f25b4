"""A trained detector -> predictions on disk -> COCO metrics.

Predictions are saved before they are evaluated, in COCO's results format with the ids of the
annotation file, so that the evaluation can be repeated without the model.
"""

import json
import logging
import time
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from pretrain.files.write import atomic_write
from transfer.detection.data import Split
from transfer.detection.evaluation.coco_eval import ENGINES, TASKS, CocoMetrics, coco_metrics

logger = logging.getLogger(__name__)


PREDICTIONS_NAME = "coco_instances_results.json"


class CocoEvaluator(COCOEvaluator):
    """Detectron2's evaluator with ids of any kind, and faster-coco-eval behind it."""

    def __init__(
        self,
        split: Split,
        output_dir: Path | None = None,
        *,
        tasks: tuple[str, ...] = ("bbox", "segm"),
        engine: str = ENGINES[0],
        max_detections: int = 100,
    ) -> None:
        # the parent's constructor would read the annotation file again, with its own id rules
        self.split, self.engine, self.max_detections = split, engine, max_detections
        self.metrics: CocoMetrics | None = None
        self._tasks = tasks
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        self._predictions: list[dict[str, Any]] = []

    def evaluate(self, img_ids: Any = None) -> dict[str, dict[str, float]]:
        """Detectron2's result: {"bbox": {"AP": ...}, "segm": {...}}; {} but on the first process.

        `self.metrics` then holds the same and more.
        """
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return {}
        self._predictions = list(chain(*gathered))
        return self.measure(img_ids)

    def measure(self, img_ids: Any = None) -> dict[str, dict[str, float]]:
        """Return what `evaluate` does, from the predictions of this process alone."""
        by_image = sorted(self._predictions, key=lambda p: p["image_id"])
        detections = [self._named(d) for p in by_image for d in p["instances"]]
        if self._output_dir is not None:
            write_predictions(detections, self._output_dir)
        truth = self.split.read_ground_truth()
        if img_ids is not None:
            truth, detections = _only(truth, detections, set(img_ids))
        self.metrics = coco_metrics(
            truth,
            detections,
            tasks=self._tasks,
            engine=self.engine,
            max_detections=self.max_detections,
        )
        return {
            task: {
                name.removesuffix(f"_{TASKS[task]}"): value
                for name, value in self.metrics.metrics.items()
                if name.endswith(f"_{TASKS[task]}")
            }
            for task in self._tasks
        }

    def _named(self, detection: dict[str, Any]) -> dict[str, Any]:
        return {**detection, "category_id": self.split.category_ids[detection["category_id"]]}


def write_predictions(detections: list[dict[str, Any]], folder: Path) -> Path:
    """Write COCO results atomically; returns the path."""
    path = Path(folder) / PREDICTIONS_NAME
    text = json.dumps(detections)
    atomic_write(path, lambda p: p.write_text(text))
    return path


def predict(model: nn.Module, loader: DataLoader, evaluator: CocoEvaluator) -> float:
    """Feed every image of the loader through the model; returns images per second (this process).

    The model is in eval mode meanwhile and returns to what it was.
    """
    training = model.training
    model.eval()
    evaluator.reset()
    total, done, start, told = len(loader.dataset), 0, time.monotonic(), time.monotonic()  # type: ignore[arg-type]
    try:
        with torch.inference_mode():
            for inputs in loader:
                evaluator.process(inputs, model(inputs))
                done += len(inputs)
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    left = (told - start) / done * (total - done)
                    logger.info("evaluated %d of %d images, %.0f s left", done, total, left)
    finally:
        model.train(training)
    return done / max(time.monotonic() - start, 1e-9)


def _only(
    truth: dict[str, Any], detections: list[dict[str, Any]], image_ids: set[Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kept = {
        **truth,
        "images": [i for i in truth["images"] if i["id"] in image_ids],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in image_ids],
    }
    return kept, [d for d in detections if d["image_id"] in image_ids]


def with_tta(model: GeneralizedRCNN, sizes: list[int], max_size: int, flip: bool) -> nn.Module:
    """`model` behind Detectron2's GeneralizedRCNNWithTTA: short sides `sizes`, in pixels."""
    heads = model.roi_heads
    predictor: Any = heads.box_predictor
    last = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = bool(heads.mask_on)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = heads.num_classes
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = last.test_nms_thresh
    cfg.TEST.DETECTIONS_PER_IMAGE = last.test_topk_per_image
    return GeneralizedRCNNWithTTA(cfg, model, DatasetMapperTTA(sizes, max_size, flip))
