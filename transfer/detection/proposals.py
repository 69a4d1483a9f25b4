"""Detectron2's region proposal network, safe to diverge on one process of several."""

from typing import Any

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.structures import Boxes, Instances
from torch import Tensor

ASPECT_RATIOS = (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32, 64)


class JointlyFailingRPN(RPN):
    """RPN whose non-finite proposals make the loss NaN instead of raising an error.

    Detectron2 raises FloatingPointError in the middle of the forward pass of one process, and the
    others wait for it in their next collective. With a NaN loss all come to the end of the step.
    """

    diverged = False

    def forward(self, images: Any, features: Any, gt_instances: Any = None) -> Any:
        """Proposals of each image, and the losses."""
        self.diverged = False
        proposals, losses = super().forward(images, features, gt_instances)
        if self.diverged and losses:
            losses["loss_rpn_cls"] = losses["loss_rpn_cls"] * float("nan")
        return proposals, losses

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return the best proposals of each image; anchors where predictions are not finite."""
        sizes = image_sizes
        try:
            return super().predict_proposals(
                anchors, pred_objectness_logits, pred_anchor_deltas, sizes
            )
        except FloatingPointError:
            self.diverged = True
            logits = [torch.zeros_like(x) for x in pred_objectness_logits]
            deltas = [torch.zeros_like(x) for x in pred_anchor_deltas]
            return super().predict_proposals(anchors, logits, deltas, sizes)


def proposal_network(
    levels: list[str],
    channels: int,
    anchor_sizes: list[int],
    *,
    convs: int,
    batch: int,
    pre_nms_topk: tuple[int, int],
    post_nms_topk: tuple[int, int],
    loss_beta: float,
    boundary_px: float,
    transform: type[Box2BoxTransform] = Box2BoxTransform,
) -> RPN:
    """Build the RPN on maps of `channels` at strides 4 to 64, one anchor size a level.

    loss_beta: where smooth L1 turns linear; 0 is L1. boundary_px: anchors that leave the image by
    as much are not trained on; -1: all are. transform: what regressions make of anchors.
    """
    return JointlyFailingRPN(
        in_features=levels,
        head=StandardRPNHead(
            in_channels=channels, num_anchors=len(ASPECT_RATIOS), conv_dims=[-1] * convs
        ),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[size] for size in anchor_sizes],
            aspect_ratios=[list(ASPECT_RATIOS)],
            strides=list(STRIDES),
            offset=0.0,
        ),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=transform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=batch,
        positive_fraction=0.5,
        pre_nms_topk=tuple(pre_nms_topk),
        post_nms_topk=tuple(post_nms_topk),
        nms_thresh=0.7,
        smooth_l1_beta=loss_beta,
        anchor_boundary_thresh=boundary_px,
    )
