"""Detections of one image against its ground truth: hits, false positives, misses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api


@dataclass(frozen=True)
class Match:
    """Indices into the lists that were matched; `hits` pairs (detection, ground truth)."""

    hits: list[tuple[int, int]]
    false_positives: list[int]
    misses: list[int]


def match(
    detections: list[dict[str, Any]],
    truths: list[dict[str, Any]],
    *,
    size: tuple[int, int],
    iou: float = 0.5,
    masks: bool = True,
) -> Match:
    """COCO's greedy matching within each class, by falling score, at one IoU threshold.

    size: (height, width) of the image. Crowds are no misses; a detection on one is ignored.
    """
    if not detections or not truths:
        wanted = [i for i, t in enumerate(truths) if not t.get("iscrowd")]
        return Match([], list(range(len(detections))), wanted)
    crowd = [int(t.get("iscrowd", 0)) for t in truths]
    overlaps = _overlaps(detections, truths, crowd, size, masks)
    order = sorted(range(len(detections)), key=lambda i: -detections[i]["score"])
    free = {i for i in range(len(truths)) if not crowd[i]}
    hits, wrong = [], []
    for d in order:
        same = [
            t
            for t in range(len(truths))
            if truths[t]["category_id"] == detections[d]["category_id"] and overlaps[d, t] >= iou
        ]
        open_ = [t for t in same if t in free]
        if open_:
            best = max(open_, key=lambda t: overlaps[d, t])
            free.remove(best)
            hits.append((d, best))
        elif not any(crowd[t] for t in same):
            wrong.append(d)
    return Match(hits, wrong, sorted(free))


def to_rle(annotation: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Turn a COCO segmentation (polygons, or either kind of run-length codes) into RLE."""
    mask = annotation["segmentation"]
    if isinstance(mask, list):
        return mask_api.merge(mask_api.frPyObjects(mask, *size))
    return mask_api.frPyObjects(mask, *size) if isinstance(mask["counts"], list) else mask


def _overlaps(
    detections: list[dict[str, Any]],
    truths: list[dict[str, Any]],
    crowd: list[int],
    size: tuple[int, int],
    masks: bool,
) -> np.ndarray:
    """Return the IoU (detections, ground truths), of masks where both have them."""
    if masks and all(d.get("segmentation") for d in [*detections, *truths]):
        found, wanted = ([to_rle(a, size) for a in side] for side in (detections, truths))
        return np.asarray(mask_api.iou(found, wanted, crowd))
    boxes = [np.asarray([a["bbox"] for a in side], float) for side in (detections, truths)]
    return np.asarray(mask_api.iou(*boxes, crowd))
