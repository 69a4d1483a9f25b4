"""Mask R-CNN on a feature pyramid, from plain numbers: where the detector is built."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.utils import comm
from timm.layers import LayerNorm2d
from torch import nn

from pretrain.run.batch_norm import CPUSyncBatchNorm
from transfer.detection.backbone import feature_pyramid
from transfer.detection.box_layers import box_predictor
from transfer.detection.cascade import IOUS, cascade_heads
from transfer.detection.mmdet import BoundedBoxTransform, per_class_cascade
from transfer.detection.precision import Float32ROIPooler, Float32SyncBatchNorm
from transfer.detection.proposals import proposal_network
from transfer.features import TimmFeatures

Norm = str | Callable[[int], nn.Module]


LEVELS = ("p2", "p3", "p4", "p5")  # strides 4, 8, 16, 32


BOX_LOSS_WEIGHT = {"giou": 10.0}  # ConvNeXt's cascade configs; smooth L1 has weight 1


def mask_rcnn(
    features: TimmFeatures,
    *,
    num_classes: int,
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
    color_order: str = "RGB",
    masks: bool = True,
    cascade: bool = False,
    stage_loss_weights: Sequence[float] | None = None,
    channels: int = 256,
    fpn_norm: str = "",
    square_pad: int = 0,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    rpn_convs: int = 1,
    rpn_batch: int = 256,
    rpn_loss_beta: float = 0.0,
    rpn_boundary_px: float = -1.0,
    pre_nms_topk: tuple[int, int] = (2000, 1000),
    post_nms_topk: tuple[int, int] = (1000, 1000),
    roi_batch: int = 512,
    box_convs: Sequence[int] = (),
    box_fcs: Sequence[int] = (1024, 1024),
    mask_convs: Sequence[int] = (256, 256, 256, 256),
    box_norm: str = "",
    mask_norm: str = "",
    box_loss: str = "smooth_l1",
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    soft_nms: dict[str, Any] | None = None,
    max_detections: int = 100,
    arithmetic: str = "detectron2",
) -> GeneralizedRCNN:
    """Mask R-CNN (or Cascade Mask R-CNN) for images in [0, 255].

    pixel_mean, pixel_std: in [0, 255], in `color_order`. pre/post_nms_topk: (training, test).
    square_pad: see PyramidBackbone. stage_loss_weights: of a cascade, see cascade.py.
    rpn_loss_beta, rpn_boundary_px: see proposals.py. soft_nms: settings of soft_nms.py, which then
    replaces NMS at `nms_threshold`. arithmetic: "mmdetection" for boxes and cascade as in mmdet.py.
    Defaults are Detectron2's (configs/common/models/mask_rcnn_fpn.py).
    """
    pyramid = feature_pyramid(features, channels, norm(fpn_norm), square_pad)
    channels = pyramid.output_shape()["p2"].channels
    transform = BoundedBoxTransform if arithmetic == "mmdetection" else Box2BoxTransform
    per_class = cascade and arithmetic == "mmdetection"
    predictor = {
        "num_classes": num_classes,
        "test_score_thresh": score_threshold,
        "test_nms_thresh": nms_threshold,
        "test_topk_per_image": max_detections,
        "box_reg_loss_type": box_loss,
        "loss_weight": {"loss_cls": 1.0, "loss_box_reg": BOX_LOSS_WEIGHT.get(box_loss, 1.0)},
    }
    if soft_nms is not None:
        predictor["soft_nms"] = dict(soft_nms)
    heads: dict[str, Any] = {
        "num_classes": num_classes,
        "batch_size_per_image": roi_batch,
        "positive_fraction": 0.25,
        "box_in_features": list(LEVELS),
        "box_pooler": pooler(7),
    }

    def mask_head() -> MaskRCNNConvUpsampleHead:
        return MaskRCNNConvUpsampleHead(
            ShapeSpec(channels=channels, height=14, width=14),
            num_classes=num_classes,
            conv_dims=[*mask_convs, mask_convs[-1]],
            conv_norm=norm(mask_norm, empty=True),
        )

    if masks:
        heads |= {
            "mask_in_features": list(LEVELS),
            "mask_pooler": pooler(14),
            "mask_head": nn.ModuleList(mask_head() for _ in IOUS) if per_class else mask_head(),
        }

    def box_head() -> FastRCNNConvFCHead:
        shape = ShapeSpec(channels=channels, height=7, width=7)
        return FastRCNNConvFCHead(
            shape,
            conv_dims=list(box_convs),
            fc_dims=list(box_fcs),
            conv_norm=norm(box_norm, empty=True),
        )

    roi_heads: StandardROIHeads
    if cascade:
        boxes = [box_head() for _ in IOUS]
        if per_class:
            roi_heads = per_class_cascade(heads, boxes, predictor)
        else:
            roi_heads = cascade_heads(heads, boxes, predictor, stage_loss_weights)
    else:
        roi_heads = _standard_heads(heads, box_head(), predictor, transform)
    return GeneralizedRCNN(
        backbone=pyramid,
        proposal_generator=proposal_network(
            [*LEVELS, "p6"],
            channels,
            list(anchor_sizes),
            convs=rpn_convs,
            batch=rpn_batch,
            pre_nms_topk=pre_nms_topk,
            post_nms_topk=post_nms_topk,
            loss_beta=rpn_loss_beta,
            boundary_px=rpn_boundary_px,
            transform=transform,
        ),
        roi_heads=roi_heads,
        pixel_mean=tuple(pixel_mean),
        pixel_std=tuple(pixel_std),
        input_format=color_order,
    )


def _standard_heads(
    common: dict[str, Any],
    head: FastRCNNConvFCHead,
    predictor: dict[str, Any],
    transform: type[Box2BoxTransform],
) -> StandardROIHeads:
    regression = transform((10, 10, 5, 5))
    return StandardROIHeads(
        **common,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        box_head=head,
        box_predictor=box_predictor(head.output_shape, regression, predictor),
    )


def norm(name: str, *, empty: bool = False) -> Norm:
    """Return Detectron2's norm by name, or "LN" over channels; SyncBN becomes BN in one process.

    empty: whether a process may come without a single region, as mask heads do. Where all of them
    do, torch's SyncBatchNorm divides by zero; Detectron2's NaiveSyncBatchNorm does not, and as all
    regions have one size, its weights by their number are those of the pixels.
    Detectron2 0.6 has no "LN".
    """
    if name == "LN":
        return LayerNorm2d
    if name != "SyncBN":
        return name
    if comm.get_world_size() == 1:
        return "BN"
    if empty:
        return lambda channels: Float32SyncBatchNorm(channels, stats_mode="N")
    return nn.SyncBatchNorm if torch.cuda.is_available() else CPUSyncBatchNorm


def pooler(size: int) -> Float32ROIPooler:
    """Return RoI pooling of p2 to p5 to maps of size x size."""
    scales = tuple(1 / 2 ** int(level[1]) for level in LEVELS)
    return Float32ROIPooler(
        output_size=size, scales=scales, sampling_ratio=0, pooler_type="ROIAlignV2"
    )
