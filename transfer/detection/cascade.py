"""Cascade R-CNN's box heads (Cai and Vasconcelos, arXiv 1712.00726) on Detectron2's.

Two ways to weigh the stages are in use. Detectron2 adds the three losses and divides the gradient
that each stage sends to the maps by three. MMDetection (CascadeRoIHead) multiplies the losses by 1,
0.5 and 0.25 and leaves the gradients alone: `stage_loss_weights`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNConvFCHead
from detectron2.structures import Instances
from torch import Tensor

from transfer.detection.box_layers import SoftNMSOutputLayers, box_predictor

IOUS = (0.5, 0.6, 0.7)  # section 4
REGRESSION_WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


class CascadeHeads(CascadeROIHeads):
    """Detectron2's heads with either weighing of the stages, and with Soft-NMS."""

    def __init__(self, *, scale_gradients: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale_gradients = scale_gradients

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        """Losses by stage in training, else detections of each image."""
        last = self.box_predictor[-1]
        if self.training or not isinstance(last, SoftNMSOutputLayers):
            return super()._forward_box(features, proposals, targets)
        maps = [features[name] for name in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        scores: list[Any] = []
        boxes: Any = None
        for stage, predictor in enumerate(self.box_predictor):
            if stage:
                proposals = self._create_proposals_from_boxes(boxes, sizes)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            scores.append(predictor.predict_probs(predictions, proposals))
        means = [torch.stack(image).mean(0) for image in zip(*scores, strict=True)]
        return last.detect(boxes, means, sizes)[0]

    def _create_proposals_from_boxes(self, boxes: list[Tensor], image_sizes: Any) -> Any:
        """Boxes of a stage as proposals of the next one.

        One that is not finite becomes a pixel in training, where Detectron2 fails on one process of
        several: the losses that it comes from tell of it.
        """
        if self.training:
            pixel = boxes[0].new_tensor([0.0, 0.0, 1.0, 1.0])
            boxes = [torch.where(b.isfinite().all(1, keepdim=True), b, pixel) for b in boxes]
        return super()._create_proposals_from_boxes(boxes, image_sizes)

    def _run_stage(self, features: list[Tensor], proposals: list[Instances], stage: int) -> Any:
        if self.scale_gradients:
            return super()._run_stage(features, proposals, stage)
        pooled = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        return self.box_predictor[stage](self.box_head[stage](pooled))


def cascade_heads(
    common: dict[str, Any],
    stages: Sequence[FastRCNNConvFCHead],
    predictor: dict[str, Any],
    stage_loss_weights: Sequence[float] | None,
) -> CascadeHeads:
    """Build the heads from the settings all detectors share.

    stages: a box head each. stage_loss_weights: MMDetection's weighing; None: Detectron2's.
    ValueError for another number of weights than stages.
    """
    weights = [1.0] * len(stages) if stage_loss_weights is None else list(stage_loss_weights)
    if len(weights) != len(stages):
        raise ValueError(
            f"stage_loss_weights needs {len(stages)} values, one for each stage, got {weights}"
        )
    predictors = []
    for head, regression, weight in zip(stages, REGRESSION_WEIGHTS, weights, strict=True):
        loss = {name: weight * value for name, value in predictor["loss_weight"].items()}
        settings = {**predictor, "loss_weight": loss, "cls_agnostic_bbox_reg": True}
        predictors.append(box_predictor(head.output_shape, Box2BoxTransform(regression), settings))
    return CascadeHeads(
        **common,
        scale_gradients=stage_loss_weights is None,
        box_heads=list(stages),
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in IOUS],
    )
