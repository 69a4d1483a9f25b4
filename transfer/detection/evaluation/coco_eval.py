"""COCO's average precision from ground truth and detections in COCO's own formats.

One function, two engines: faster-coco-eval, and pycocotools to check it with. The engine and its
version stand in every record. Ground truth of LVIS is judged by LVIS' rules.
"""

import contextlib
import io
import logging
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, get_args

import numpy as np
import pycocotools.mask as mask_api

from transfer.datasets.ids import IdNumbers, id_problem
from transfer.datasets.lvis import (
    DETECTIONS_AN_IMAGE,
    FREQUENCIES,
    best_of_each_image,
    is_lvis,
    judged,
)

logger = logging.getLogger(__name__)


Engine = Literal["faster-coco-eval", "pycocotools"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


TASKS = {"bbox": "box", "segm": "mask"}


NO_MASK: dict[str, Any] = {"size": [1, 1], "counts": "1"}  # one pixel, not set


@dataclass(frozen=True)
class CocoMetrics:
    """Percent, higher is better, not rounded. A size without ground truth has no metric."""

    metrics: dict[str, float]  # AP_box, AP50_box, ..., AP_mask, ...
    per_class: dict[str, dict[str, float]]  # class name -> {"AP_box": ..., "AP_mask": ...}
    evaluator: str
    precision: dict[str, Any] = field(default_factory=dict, repr=False)  # task -> (T, R, K)


def coco_metrics(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    *,
    tasks: tuple[str, ...] = ("bbox", "segm"),
    engine: str = ENGINES[0],
    max_detections: int | None = None,
) -> CocoMetrics:
    """Evaluate `detections` (COCO results format) against `ground_truth` (COCO instances).

    `max_detections` count of a category on an image, by default 100; of an image for LVIS, by
    default 300. LVIS adds APr, APc and APf over its rare, common and frequent categories.
    Without any detection every metric is 0. ValueError for an engine that cannot, and for
    detections of images or categories that the ground truth does not have.
    """
    federated = is_lvis(ground_truth)
    check_engine(engine, federated)
    _check_ids(ground_truth, detections)
    numbers = IdNumbers.of(ground_truth)
    ground_truth = numbers.apply(ground_truth)
    evaluator = f"{engine} {metadata.version(engine)}"
    most = max_detections or (DETECTIONS_AN_IMAGE if federated else 100)
    if federated:
        evaluator += ", LVIS"
        detections = judged(best_of_each_image(detections, most), ground_truth, numbers.place)
    names = {c["id"]: str(c["name"]) for c in ground_truth["categories"]}
    metrics: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {name: {} for name in names.values()}
    precision = {}
    for task in tasks:
        run = _evaluate(ground_truth, numbers, detections, task, engine, most)
        table = np.asarray(run.eval["precision"])  # (T thresholds, R recalls, K classes, A, M)
        values = _summary(table, run.params.iouThrs)
        if federated:
            values |= _by_frequency(table, ground_truth["categories"], run.params.catIds)
        for name, value in values.items():
            metrics[f"{name}_{TASKS[task]}"] = value
        for k, category in enumerate(run.params.catIds):
            mean = _mean(table[:, :, k, 0, -1])
            if mean is not None:
                per_class[names[category]][f"AP_{TASKS[task]}"] = mean
        precision[task] = table[:, :, :, 0, -1]
    return CocoMetrics(metrics, per_class, evaluator, precision)


def check_engine(engine: str, federated: bool) -> None:
    """ValueError for an unknown engine, or one that does not know LVIS' rules if they hold."""
    if engine not in ENGINES:
        raise ValueError(f"unknown COCO evaluation engine {engine!r}; choose from {ENGINES}")
    if federated and engine != ENGINES[0]:
        raise ValueError(f"{engine} has no federated ground truth: LVIS needs {ENGINES[0]}")


def tasks_of(detections: list[dict[str, Any]]) -> tuple[str, ...]:
    """Boxes, and masks where every detection has one."""
    return tuple(TASKS) if all(d.get("segmentation") for d in detections) else ("bbox",)


def _evaluate(
    ground_truth: dict[str, Any],
    numbers: IdNumbers,
    detections: list[dict[str, Any]],
    task: str,
    engine: str,
    max_detections: int,
) -> Any:
    """Return a finished COCOeval of either engine."""
    if engine == "faster-coco-eval":
        from faster_coco_eval import COCO, COCOeval_faster

        truth, evaluate, load = COCO(ground_truth), COCOeval_faster, _results
    else:
        from pycocotools.coco import COCO as REFERENCE
        from pycocotools.cocoeval import COCOeval

        truth, evaluate, load = REFERENCE(), COCOeval, _reference_results
        truth.dataset = ground_truth
        _quietly(truth.createIndex)
    federated = {"lvis_style": True} if is_lvis(ground_truth) else {}
    run = evaluate(truth, load(truth, numbers, detections, task), task, **federated)
    run.params.maxDets = [max_detections]  # COCO's 1 and 10 are for recalls that nobody asks for
    _quietly(run.evaluate)
    _quietly(run.accumulate)
    return run


def _check_ids(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    for key, name in (("image_id", "images"), ("category_id", "categories")):
        ids = [d[key] for d in detections]
        problem = id_problem(ids)
        if problem:
            raise ValueError(f"{key} of the detections: {problem}")
        unknown = set(ids) - {record["id"] for record in ground_truth[name]}
        if unknown:
            raise ValueError(
                f"detections name {name} that the ground truth lacks: "
                f"{sorted(unknown, key=str)[:5]}; give the annotation file they were made for, "
                "with ids written alike (5 is not '5')"
            )


def _results(truth: Any, numbers: IdNumbers, detections: list[dict[str, Any]], task: str) -> Any:
    """As COCO.loadRes of faster-coco-eval, without its time to measure and decode masks.

    A mask whose image has no object of its category overlaps none: its area is all that counts.
    """
    places = [numbers.place(d) for d in detections]
    if task == "segm":
        areas = [int(mask_api.area(d["segmentation"])) for d in detections]
        pairs = {(a["image_id"], a["category_id"]) for a in truth.dataset["annotations"]}
        shapes: list[Any] = [
            d["segmentation"] if (p["image_id"], p["category_id"]) in pairs else NO_MASK
            for d, p in zip(detections, places, strict=True)
        ]
    else:
        shapes = [d["bbox"] for d in detections]
        areas = [width * height for _, _, width, height in shapes]
    key = "segmentation" if task == "segm" else "bbox"
    results = type(truth)()
    found = [
        {"id": number, **place, "score": d["score"], "area": area, "iscrowd": 0, key: shape}
        for number, (d, place, area, shape) in enumerate(
            zip(detections, places, areas, shapes, strict=True), 1
        )
    ]
    results.dataset = {**truth.dataset, "annotations": found}
    results.createIndex()
    return results


def _reference_results(
    truth: Any, numbers: IdNumbers, detections: list[dict[str, Any]], task: str
) -> Any:
    # mask AP counts an object's size by its mask: COCO uses the box where one is given
    drop = "bbox" if task == "segm" else "segmentation"
    plain = [{k: v for k, v in (d | numbers.place(d)).items() if k != drop} for d in detections]
    if plain:
        return _quietly(lambda: truth.loadRes(plain))
    empty = type(truth)()
    empty.dataset = {**truth.dataset, "annotations": []}
    _quietly(empty.createIndex)
    return empty


def _quietly(call: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return call()


def _summary(table: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    """COCO's six figures of one task, in percent; sizes without ground truth are left out."""
    at = {t: int(np.argmin(np.abs(np.asarray(thresholds) - t))) for t in (0.5, 0.75)}
    parts = {
        "AP": table[:, :, :, 0, -1],
        "AP50": table[at[0.5], :, :, 0, -1],
        "AP75": table[at[0.75], :, :, 0, -1],
        "APs": table[:, :, :, 1, -1],
        "APm": table[:, :, :, 2, -1],
        "APl": table[:, :, :, 3, -1],
    }
    values = {name: _mean(part) for name, part in parts.items()}
    return {name: value for name, value in values.items() if value is not None}


def _by_frequency(
    table: np.ndarray, categories: list[dict[str, Any]], order: list[Any]
) -> dict[str, float]:
    """AP over the categories of each frequency; `order` is that of the table's classes."""
    frequency = {c["id"]: c["frequency"] for c in categories}
    values = {}
    for kind in FREQUENCIES:
        chosen = [k for k, category in enumerate(order) if frequency[category] == kind]
        values[f"AP{kind}"] = _mean(table[:, :, chosen, 0, -1])
    return {name: value for name, value in values.items() if value is not None}


def _mean(part: np.ndarray) -> float | None:
    known = part[part > -1]
    return float(known.mean() * 100) if known.size else None
