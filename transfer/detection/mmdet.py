"""What MMDetection's Mask R-CNN and Cascade Mask R-CNN compute in another way than Detectron2's.

Sources: MMDetection 3.3.0, [c] models/task_modules/coders/delta_xywh_bbox_coder.py, [r]
models/roi_heads/cascade_roi_head.py, [p] mmcv/transforms/processing.py; and the cascade configs of
facebookresearch/ConvNeXt object_detection. Anchors, the order of predictions, the place of the
background, RoIAlign and the mask head are the same in both.
"""

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform, Transform
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor

from transfer.detection.box_layers import SoftNMSOutputLayers, box_predictor
from transfer.detection.cascade import IOUS, CascadeHeads

# Detectron2's third stage has 1 / 30 and 1 / 15
STANDARD_DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


class BoundedBoxTransform(Box2BoxTransform):
    """Boxes shrink by no more than they grow, 1000 / 16 [c]; Detectron2 bounds growth alone."""

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Regressions (N, 4k) of boxes (N, 4) -> boxes (N, 4k), in pixels."""
        each = deltas.float().unflatten(1, (-1, 4))
        least = each.new_tensor(self.weights[2:]) * -self.scale_clamp
        bounded = torch.cat([each[..., :2], each[..., 2:].maximum(least)], -1)
        return super().apply_deltas(bounded.flatten(1), boxes)


class PerClassCascadeHeads(CascadeHeads):
    """A cascade with a box regression a class and a mask head a stage, for evaluation.

    Each stage goes on with the box of its best class; logits are averaged over the stages, then the
    masks' probabilities [r].
    """

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances], targets: Any = None
    ) -> list[Instances]:
        """Return the detections of each image. Raises ValueError in training."""
        if self.training or targets is not None:
            raise ValueError("model.arithmetic=mmdetection: such a cascade is only evaluated here")
        maps = [features[name] for name in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        counts = [len(p) for p in proposals]
        logits: list[tuple[Tensor, ...]] = []
        boxes: list[Tensor] = []
        for stage, predictor in enumerate(self.box_predictor):
            if stage:
                chosen = [_of_best(b, s) for b, s in zip(boxes, logits[-1], strict=True)]
                proposals = self._create_proposals_from_boxes(chosen, sizes)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = list(predictor.predict_boxes(predictions, proposals))
            logits.append(predictions[0].split(counts))
        scores = [torch.stack(image).mean(0).softmax(-1) for image in zip(*logits, strict=True)]
        last: Any = self.box_predictor[-1]
        if isinstance(last, SoftNMSOutputLayers):
            return last.detect(boxes, scores, sizes)[0]
        limits = (last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image)
        return fast_rcnn_inference(boxes, scores, sizes, *limits)[0]

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Return the detections with `pred_masks`, probabilities (N, 1, 28, 28)."""
        if not self.mask_on:
            return instances
        maps = [features[name] for name in self.mask_in_features]
        pooled = self.mask_pooler(maps, [x.pred_boxes for x in instances])
        classes = torch.cat([x.pred_classes for x in instances])
        rows = torch.arange(len(classes), device=classes.device)
        stages = [head.layers(pooled)[rows, classes].sigmoid() for head in self.mask_head]
        masks = torch.stack(stages).mean(0)[:, None].split([len(x) for x in instances])
        for found, mask in zip(instances, masks, strict=True):
            found.pred_masks = mask
        return instances


def _of_best(boxes: Tensor, logits: Tensor) -> Tensor:
    """Return of boxes (R, 4K) each row's of its best class; logits (R, K + 1)."""
    rows = torch.arange(len(boxes), device=boxes.device)
    return boxes.unflatten(1, (-1, 4))[rows, logits[:, :-1].argmax(1)]


def per_class_cascade(
    common: dict[str, Any], stages: list[Any], predictor: dict[str, Any]
) -> PerClassCascadeHeads:
    """Build the heads from the settings all detectors share, a box head each stage."""
    predictors = [
        box_predictor(head.output_shape, bounded_transform(deviations), predictor)
        for head, deviations in zip(stages, STANDARD_DEVIATIONS, strict=True)
    ]
    return PerClassCascadeHeads(
        **common,
        scale_gradients=False,
        box_heads=stages,
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in IOUS],
    )


def bounded_transform(deviations: tuple[float, ...]) -> BoundedBoxTransform:
    """Return the box transform for standard deviations of x, y, width and height."""
    return BoundedBoxTransform(tuple(1 / value for value in deviations))


class OpenCVResize(ResizeTransform):
    """Detectron2's ResizeTransform with OpenCV's bilinear kernel, which does not average pixels."""

    def apply_image(self, img: np.ndarray, interp: Any = None) -> np.ndarray:
        """(H, W, C) uint8 -> (new_h, new_w, C)."""
        assert interp is None
        return cv2.resize(img, (self.new_w, self.new_h), interpolation=cv2.INTER_LINEAR)


class ResizeShortestEdgeByOpenCV(ResizeShortestEdge):
    """Detectron2's ResizeShortestEdge of one size as MMDetection resizes a test image [p]."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return the resize of an image (H, W, C): whole pixels are rounded from one factor."""
        (h, w), size = image.shape[:2], self.short_edge_length[0]
        factor = min(self.max_size / max(h, w), size / min(h, w))
        return OpenCVResize(h, w, int(h * factor + 0.5), int(w * factor + 0.5))
