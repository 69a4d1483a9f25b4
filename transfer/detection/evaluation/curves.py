"""Precision over recall, per class and on average, as a picture and as numbers."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from transfer.detection.evaluation.coco_eval import TASKS, coco_metrics, tasks_of

matplotlib.use("Agg")


RECALLS = np.linspace(0, 1, 101)  # COCO's


SHOWN = {0.5: 0, 0.75: 5, 0.9: 8}  # IoU threshold -> its place among COCO's ten


MOST_CLASSES = 12  # more lines than that cannot be told apart


def draw_curves(ground_truth: dict[str, Any], detections: list[dict[str, Any]], path: Path) -> Path:
    """Write `path`: a row a task; left the mean at three IoUs, right each class at IoU 0.5."""
    tasks = tasks_of(detections)
    curves = coco_metrics(ground_truth, detections, tasks=tasks).precision
    names = [c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"])]
    figure, axes = plt.subplots(
        len(tasks), 2, figsize=(10, 4.2 * len(tasks)), squeeze=False, layout="constrained"
    )
    for row, task in zip(axes, tasks, strict=True):
        table = np.where(curves[task] < 0, np.nan, curves[task])  # (T, R, K)
        for iou, place in SHOWN.items():
            row[0].plot(RECALLS, _mean(table[place]), label=f"IoU {iou}")
        best = np.argsort(-np.nan_to_num(_mean(table[0].T)))[:MOST_CLASSES]
        for k in best:
            row[1].plot(RECALLS, table[0, :, k], label=names[k], linewidth=1)
        row[0].set_title(f"{TASKS[task]}: mean over {len(names)} classes")
        row[1].set_title(
            f"{TASKS[task]}: classes at IoU 0.5"
            + (f" (the best {MOST_CLASSES})" if len(names) > MOST_CLASSES else "")
        )
        for axis in row:
            axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _mean(table: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without what is not a number; 0 where nothing is left."""
    known = ~np.isnan(table)
    return np.nansum(table, axis=-1) / np.maximum(known.sum(-1), 1)
