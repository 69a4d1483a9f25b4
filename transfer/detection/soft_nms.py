"""Soft-NMS (Bodla et al. 2017) for Detectron2's box heads: overlapping scores decay, none is cut.

A step takes the highest score and decays its class' overlapping boxes. Scores only fall, so the
first `topk` steps yield the `topk` best detections and the rest need not be looked at.
"""

from typing import Any

import torch
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
    scores = scores.clone()
    kept, values = [], []
    for _ in range(min(topk, len(scores))):
        best = int(scores.argmax())
        value = scores[best].item()
        if value < min_score:
            break
        kept.append(best)
        values.append(value)
        overlap = box_iou(boxes[best : best + 1], boxes)[0] * (classes == classes[best])
        if method == "gaussian":
            scores *= torch.exp(-(overlap**2) / sigma)
        else:
            scores *= torch.where(overlap > iou_threshold, 1 - overlap, torch.ones_like(overlap))
        scores[best] = -1.0
    index = torch.tensor(kept, dtype=torch.long, device=boxes.device)
    return index, torch.tensor(values, dtype=scores.dtype, device=boxes.device)


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
        pairs = [
            self._one(b, s, p.image_size) for b, s, p in zip(boxes, scores, proposals, strict=True)
        ]
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
