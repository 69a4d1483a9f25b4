"""Mask R-CNN on a feature pyramid, from plain numbers: where the detector is built."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.utils import comm
from timm.layers import LayerNorm2d
from torch import nn

from pretrain.run.batch_norm import CPUSyncBatchNorm
from transfer.detection.backbone import feature_pyramid
from transfer.detection.precision import Float32ROIPooler, Float32SyncBatchNorm
from transfer.detection.soft_nms import SoftNMSOutputLayers
from transfer.features import TimmFeatures

Norm = str | Callable[[int], nn.Module]


LEVELS = ("p2", "p3", "p4", "p5")  # strides 4, 8, 16, 32


CASCADE_IOUS = (0.5, 0.6, 0.7)  # Cascade R-CNN, section 4


BOX_LOSS_WEIGHT = {"giou": 10.0}  # ConvNeXt's cascade configs; smooth L1 has weight 1


CASCADE_WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


def mask_rcnn(
    features: TimmFeatures,
    *,
    num_classes: int,
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
    color_order: str = "RGB",
    masks: bool = True,
    cascade: bool = False,
    channels: int = 256,
    fpn_norm: str = "",
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    rpn_convs: int = 1,
    rpn_batch: int = 256,
    pre_nms_topk: tuple[int, int] = (2000, 1000),
    post_nms_topk: tuple[int, int] = (1000, 1000),
    roi_batch: int = 512,
    box_convs: Sequence[int] = (),
    box_fcs: Sequence[int] = (1024, 1024),
    mask_convs: Sequence[int] = (256, 256, 256, 256),
    head_norm: str = "",
    box_loss: str = "smooth_l1",
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    soft_nms: dict[str, Any] | None = None,
    max_detections: int = 100,
) -> GeneralizedRCNN:
    """Mask R-CNN (or Cascade Mask R-CNN) for images in [0, 255].

    pixel_mean, pixel_std: in [0, 255], in `color_order`. pre/post_nms_topk: (training, test).
    soft_nms: settings of soft_nms.py, which then replaces NMS at `nms_threshold`.
    Defaults are Detectron2's (configs/common/models/mask_rcnn_fpn.py).
    """
    pyramid = feature_pyramid(features, channels, norm(fpn_norm))
    channels = pyramid.output_shape()["p2"].channels
    predictor = {
        "num_classes": num_classes,
        "test_score_thresh": score_threshold,
        "test_nms_thresh": nms_threshold,
        "test_topk_per_image": max_detections,
        "box_reg_loss_type": box_loss,
        "loss_weight": {"loss_box_reg": BOX_LOSS_WEIGHT.get(box_loss, 1.0)},
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
    if masks:
        heads |= {
            "mask_in_features": list(LEVELS),
            "mask_pooler": pooler(14),
            "mask_head": MaskRCNNConvUpsampleHead(
                ShapeSpec(channels=channels, height=14, width=14),
                num_classes=num_classes,
                conv_dims=[*mask_convs, mask_convs[-1]],
                conv_norm=norm(head_norm, empty=True),
            ),
        }

    def box_head() -> FastRCNNConvFCHead:
        shape = ShapeSpec(channels=channels, height=7, width=7)
        return FastRCNNConvFCHead(
            shape,
            conv_dims=list(box_convs),
            fc_dims=list(box_fcs),
            conv_norm=norm(head_norm, empty=True),
        )

    roi_heads = (_cascade if cascade else _standard)(heads, box_head, predictor)
    return GeneralizedRCNN(
        backbone=pyramid,
        proposal_generator=_rpn(
            channels, anchor_sizes, rpn_convs, rpn_batch, pre_nms_topk, post_nms_topk
        ),
        roi_heads=roi_heads,
        pixel_mean=tuple(pixel_mean),
        pixel_std=tuple(pixel_std),
        input_format=color_order,
    )


def norm(name: str, *, empty: bool = False) -> Norm:
    """Return Detectron2's norm by name, or "LN" over channels; SyncBN becomes BN in one process.

    empty: whether a process may come without a single region, as mask heads do. torch's
    SyncBatchNorm divides by zero where all of them do; Detectron2's NaiveSyncBatchNorm does not, and
    as all regions have one size its weights by their number are those of the pixels.
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
    scales = tuple(1 / 2 ** int(level[1]) for level in LEVELS)
    return Float32ROIPooler(
        output_size=size, scales=scales, sampling_ratio=0, pooler_type="ROIAlignV2"
    )


def _rpn(
    channels: int,
    anchor_sizes: Sequence[int],
    convs: int,
    batch: int,
    pre_nms_topk: tuple[int, int],
    post_nms_topk: tuple[int, int],
) -> RPN:
    ratios = (0.5, 1.0, 2.0)
    return RPN(
        in_features=[*LEVELS, "p6"],
        head=StandardRPNHead(in_channels=channels, num_anchors=len(ratios), conv_dims=[-1] * convs),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[size] for size in anchor_sizes],
            aspect_ratios=[list(ratios)],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=batch,
        positive_fraction=0.5,
        pre_nms_topk=tuple(pre_nms_topk),
        post_nms_topk=tuple(post_nms_topk),
        nms_thresh=0.7,
    )


def _standard(
    heads: dict[str, Any], box_head: Callable[[], FastRCNNConvFCHead], predictor: dict[str, Any]
) -> StandardROIHeads:
    head = box_head()
    return StandardROIHeads(
        **heads,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        box_head=head,
        box_predictor=_predictor(head, (10, 10, 5, 5), predictor),
    )


def _cascade(
    heads: dict[str, Any], box_head: Callable[[], FastRCNNConvFCHead], predictor: dict[str, Any]
) -> CascadeROIHeads:
    stages = [box_head() for _ in CASCADE_IOUS]
    return CascadeROIHeads(
        **heads,
        proposal_matchers=[
            Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in CASCADE_IOUS
        ],
        box_heads=stages,
        box_predictors=[
            _predictor(head, weights, {**predictor, "cls_agnostic_bbox_reg": True})
            for head, weights in zip(stages, CASCADE_WEIGHTS, strict=True)
        ],
    )


def _predictor(
    head: FastRCNNConvFCHead, weights: tuple[int, ...], settings: dict[str, Any]
) -> FastRCNNOutputLayers:
    build = SoftNMSOutputLayers if "soft_nms" in settings else FastRCNNOutputLayers
    return build(head.output_shape, box2box_transform=Box2BoxTransform(weights=weights), **settings)
