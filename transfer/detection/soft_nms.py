"""Soft-NMS (Bodla et al. 2017) for Detectron2's box heads: overlapping scores decay, none is cut.

A step takes the highest score and decays its class' overlapping boxes. Scores only fall, so the
first `topk` steps yield the `topk` best detections and the rest need not be looked at.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_iou

METHODS = ("linear", "gaussian")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    topk: int,
) -> tuple[Tensor, Tensor]:
    """Indices of the kept boxes by falling decayed score, and those scores.

    boxes (N, 4) in pixels, scores (N,), classes (N,). "linear" multiplies by 1 - IoU above
    `iou_threshold`, "gaussian" by exp(-IoU^2 / sigma) everywhere.
    """
    if method not in METHODS:
        raise ValueError(f"soft-NMS method must be one of {METHODS}, got {method!r}")
    kept, values = best_first(
        boxes, scores, classes, method=method, iou_threshold=iou_threshold, sigma=sigma,
        steps=min(topk, len(scores)),
    )  # fmt: skip
    enough = values >= min_score  # they fall from step to step
    return kept[enough], values[enough]


def best_first(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Return the `steps` first indices and their decayed scores; the host reads nothing."""
    scores = scores.clone()
    kept = torch.zeros(steps, dtype=torch.long, device=boxes.device)
    values = torch.zeros(steps, dtype=scores.dtype, device=boxes.device)
    for step in range(steps):
        best = scores.argmax()[None]
        kept[step], values[step] = best[0], scores.index_select(0, best)[0]
        overlap = box_iou(boxes.index_select(0, best), boxes)[0]
        overlap = overlap * (classes == classes.index_select(0, best))
        if method == "gaussian":
            scores *= torch.exp(-(overlap**2) / sigma)
        else:
            scores *= torch.where(overlap > iou_threshold, 1 - overlap, torch.ones_like(overlap))
        scores.index_fill_(0, best, -1.0)
    return kept, values


class SoftNMSOutputLayers(FastRCNNOutputLayers):
    """FastRCNNOutputLayers whose inference runs soft-NMS with `soft_nms` settings."""

    def __init__(self, *args: Any, soft_nms: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.soft_nms = soft_nms

    def inference(
        self, predictions: Any, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections of every image, and the proposals they come from."""
        boxes = self.predict_boxes(predictions, proposals)
        scores = self.predict_probs(predictions, proposals)
        return self.detect(boxes, scores, [p.image_size for p in proposals])

    def detect(
        self, boxes: Sequence[Tensor], scores: Sequence[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections of every image, and the rows they come from.

        boxes (R, 4K) or (R, 4) in pixels and scores (R, K + 1) of each image of (height, width).
        """
        pairs = [self._one(b, s, size) for b, s, size in zip(boxes, scores, sizes, strict=True)]
        return [found for found, _ in pairs], [rows for _, rows in pairs]

    def _one(
        self, boxes: Tensor, scores: Tensor, size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """boxes (R, 4K) or (R, 4), scores (R, K + 1), the last column the background."""
        scores = scores[:, :-1]
        clipped = Boxes(boxes.reshape(-1, 4))
        clipped.clip(size)
        by_class = clipped.tensor.view(len(boxes), -1, 4).expand(-1, scores.shape[1], 4)
        wanted = scores > self.test_score_thresh
        rows, classes = wanted.nonzero(as_tuple=True)
        found_boxes = by_class[rows, classes]
        keep, values = soft_nms(
            found_boxes, scores[rows, classes], classes, topk=self.test_topk_per_image,
            **self.soft_nms,
        )  # fmt: skip
        found = Instances(size)
        found.pred_boxes = Boxes(found_boxes[keep])
        found.scores = values
        found.pred_classes = classes[keep]
        return found, rows[keep]


def box_predictor(
    shape: ShapeSpec, regression: Box2BoxTransform, settings: dict[str, Any]
) -> FastRCNNOutputLayers:
    """Build the layers behind a box head; with Soft-NMS where `settings` has `soft_nms`."""
    build = SoftNMSOutputLayers if "soft_nms" in settings else FastRCNNOutputLayers
    return build(shape, box2box_transform=regression, **settings)
