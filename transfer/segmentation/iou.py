"""mIoU, mAcc and aAcc with exact counts, and IoU by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from PIL import Image
from torch import Tensor

from pretrain.files.write import writing
from transfer.segmentation.labels import IGNORED, read_labels, to_classes, to_labels

PREDICTIONS = "predictions"


@METRICS.register_module()
class ExactIoU(BaseMetric):
    """Sums pixel counts (int64) over all images, then intersects over unites, in percent.

    As MMSegmentation's IoUMetric, but neither counted in float32 nor rounded. A class that appears
    neither in the labels nor in the predictions does not count; one that is only predicted counts
    as IoU 0. `per_class` holds the last evaluation. `output_dir`: save the predicted label maps
    there as PNG, with the values that the data set's label files have.

    The processes add up their counts through the process group: nothing is written for it, so no
    folder needs to be shared.
    """

    default_prefix = ""

    def __init__(self, output_dir: str | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.output_dir = Path(output_dir) if output_dir else None
        self.per_class: dict[str, dict[str, float]] = {}
        self.totals: Tensor | None = None
        self.images = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:  # noqa: ARG002
        """Count one batch."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            predicted = sample["pred_sem_seg"]["data"].squeeze(0)
            truth = sample["gt_sem_seg"]["data"].squeeze(0).to(predicted.device)
            counts = count_pixels(predicted, truth, classes)
            self.totals = counts if self.totals is None else self.totals + counts
            self.images += 1
            if self.output_dir:
                save_prediction(predicted, sample, self.output_dir)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the figures over the `size` images of all processes, in percent.

        `per_class` is filled on the way. ValueError where images were left out or counted twice.
        """
        names = self.dataset_meta["classes"]
        empty = torch.zeros(3, len(names), dtype=torch.int64)
        totals, images = empty if self.totals is None else self.totals, torch.tensor(self.images)
        self.totals, self.images = None, 0
        all_reduce(totals)
        all_reduce(images)
        if int(images) != size:
            raise ValueError(f"{int(images)} predictions for {size} images: each counts once")
        metrics, table = figures(totals)
        self.per_class = {
            measure: {n: v for n, v in zip(names, values, strict=True) if not np.isnan(v)}
            for measure, values in table.items()
        }
        return metrics

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Never called: `evaluate` needs no results of other processes."""
        raise NotImplementedError


def count_pixels(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """(H, W) and (H, W) -> (3, classes) int64: pixels right, predicted and true of each class."""
    counted = truth != IGNORED
    predicted, truth = predicted[counted].long(), truth[counted].long()
    counts = [
        torch.bincount(x, minlength=classes) for x in (truth[predicted == truth], predicted, truth)
    ]
    return torch.stack(counts).cpu()


def figures(totals: Tensor) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Turn (3, classes) pixel counts into the three means, and IoU and Acc by class, in percent.

    ValueError where no pixel counts.
    """
    right, predicted, true = totals.double()
    iou = 100 * right / (predicted + true - right)  # nan where a class never appears
    acc = 100 * right / true
    means = {"mIoU": iou.nanmean(), "mAcc": acc.nanmean(), "aAcc": 100 * right.sum() / true.sum()}
    if any(torch.isnan(v) for v in means.values()):
        raise ValueError("nothing to evaluate: every pixel of the evaluation set is ignored")
    return {k: float(v) for k, v in means.items()}, {"IoU": iou.tolist(), "Acc": acc.tolist()}


def save_prediction(predicted: Tensor, sample: dict[str, Any], folder: Path) -> None:
    """Write one predicted map (H, W) under the image's name, as the data set stores labels."""
    path = prediction_path(folder, sample["image_name"])
    labels = to_labels(predicted.cpu().numpy().astype(np.uint8), sample["reduce_zero_label"])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)  # of this process' machine
        Image.fromarray(labels).save(path)


def prediction_path(folder: Path, image_name: str) -> Path:
    """Return where the prediction for an image lies: in the image's subfolder, as a PNG."""
    return folder / f"{image_name}.png"


def score_folder(folder: Path, data: Any) -> dict[str, float]:
    """Return mIoU, mAcc and aAcc of saved predictions against the labels of an evaluation set.

    FileNotFoundError where there are none, or one is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no {folder}: evaluate with save_predictions=True first")
    classes, counts = len(data.metainfo["classes"]), []
    for index in range(len(data)):
        info = data.get_data_info(index)
        predicted_file = prediction_path(folder, info["image_name"])
        if not predicted_file.is_file():
            raise FileNotFoundError(f"there is no prediction {predicted_file}")
        truth, predicted = (
            torch.from_numpy(to_classes(read_labels(path), info["reduce_zero_label"]))
            for path in (info["seg_map_path"], predicted_file)
        )
        counts.append(count_pixels(predicted, truth, classes))
    return figures(torch.stack(counts).sum(0))[0]
