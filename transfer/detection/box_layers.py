"""What follows a box head: classes, box regressions, their losses, and the best detections."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from torch import Tensor

from transfer.detection.soft_nms import soft_nms


class BoxOutputLayers(FastRCNNOutputLayers):
    """Detectron2's layers, whose loss is NaN where a regression is not finite.

    fvcore's GIoU loss fails there, on one process of several; the others would wait for it.
    """

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Losses of scores (R, K + 1) and regressions (R, 4K) or (R, 4), by name."""
        scores, deltas = predictions
        sound = torch.nan_to_num(deltas, nan=0.0, posinf=0.0, neginf=0.0)
        losses = super().losses((scores, sound), proposals)
        told = torch.where(deltas.isfinite().all(), 0.0, float("nan"))
        return {**losses, "loss_box_reg": losses["loss_box_reg"] + told}


class SoftNMSOutputLayers(BoxOutputLayers):
    """FastRCNNOutputLayers whose inference runs soft-NMS with `soft_nms` settings."""

    def __init__(self, *args: Any, soft_nms: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.soft_nms = soft_nms

    def inference(
        self, predictions: Any, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of every image, and the proposals they come from."""
        boxes = self.predict_boxes(predictions, proposals)
        scores = self.predict_probs(predictions, proposals)
        return self.detect(boxes, scores, [p.image_size for p in proposals])

    def detect(
        self, boxes: Sequence[Tensor], scores: Sequence[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of every image, and the rows they come from.

        boxes (R, 4K) or (R, 4) in pixels and scores (R, K + 1) of each image of (height, width).
        """
        pairs = [self._one(b, s, size) for b, s, size in zip(boxes, scores, sizes, strict=True)]
        return [found for found, _ in pairs], [rows for _, rows in pairs]

    def _one(
        self, boxes: Tensor, scores: Tensor, size: tuple[int, int]
    ) -> tuple[Instances, Tensor]:
        """Boxes (R, 4K) or (R, 4), scores (R, K + 1), the last column the background."""
        scores = scores[:, :-1]
        clipped = Boxes(boxes.reshape(-1, 4))
        clipped.clip(size)
        by_class = clipped.tensor.view(len(boxes), -1, 4).expand(-1, scores.shape[1], 4)
        wanted = scores > self.test_score_thresh
        rows, classes = wanted.nonzero(as_tuple=True)
        found_boxes = by_class[rows, classes]
        keep, values = soft_nms(
            found_boxes,
            scores[rows, classes],
            classes,
            topk=self.test_topk_per_image,
            **self.soft_nms,
        )
        found = Instances(size)
        found.pred_boxes = Boxes(found_boxes[keep])
        found.scores = values
        found.pred_classes = classes[keep]
        return found, rows[keep]


def box_predictor(
    shape: ShapeSpec, regression: Box2BoxTransform, settings: dict[str, Any]
) -> BoxOutputLayers:
    """Build the layers behind a box head; with Soft-NMS where `settings` has `soft_nms`."""
    build = SoftNMSOutputLayers if "soft_nms" in settings else BoxOutputLayers
    return build(shape, box2box_transform=regression, **settings)
