"""timm's encoders as Detectron2 backbones: the same tensors, bit for bit.

`TimmBackbone` is for LazyConfig; yacs users name `build_timm_backbone` (for FPN's bottom-up path)
or `build_timm_fpn_backbone` as MODEL.BACKBONE.NAME after `add_timm_config(cfg)`.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor

from transfer.features import TimmFeatures
from transfer.weights import IMAGENET, PixelStats, features_for


class TimmBackbone(Backbone):
    """`TimmFeatures` under Detectron2's interface; output names and tensors are unchanged."""

    def __init__(self, features: TimmFeatures) -> None:
        super().__init__()
        self.features = features
        self._out_features = list(features.channels)
        self._out_feature_channels = dict(features.channels)
        self._out_feature_strides = dict(features.strides)

    @property
    def size_divisibility(self) -> int:
        """Pixels of which the sides of a batch are multiples."""
        return self.features.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised -> {"res2": (B, C2, H/4, W/4), ...}."""
        # on CPUs inference of ResNets is a tenth quicker; GPUs' tensor cores ask for it
        if x.is_cuda or (x.is_cpu and not torch.is_grad_enabled()):
            x = x.contiguous(memory_format=torch.channels_last)
        return self.features(x)


class PyramidBackbone(Backbone):
    """A plain ViT's simple feature pyramid as p2..p5, and p6 by pooling p5 (ViTDet, section 3).

    square_pad: pad every image with zeros to a square of so many pixels, as Detectron2's
    SimpleFeaturePyramid asks for, so that position embeddings are not stretched; 0: do not.
    """

    def __init__(self, bottom_up: TimmBackbone, square_pad: int = 0) -> None:
        super().__init__()
        self.square_pad = square_pad
        self.bottom_up = bottom_up
        self.top = LastLevelMaxPool()
        shapes = bottom_up.output_shape()
        self._names = {name: name.replace("res", "p") for name in shapes}
        self._out_features = [*self._names.values(), "p6"]
        self._out_feature_channels = {p: shapes[r].channels for r, p in self._names.items()}
        self._out_feature_channels["p6"] = self._out_feature_channels["p5"]
        self._out_feature_strides = {p: shapes[r].stride for r, p in self._names.items()} | {
            "p6": 64
        }

    @property
    def size_divisibility(self) -> int:
        """Pixels of which the sides of a batch are multiples."""
        return self.bottom_up.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {"p2": (B, C, H/4, W/4), ..., "p6": (B, C, H/64, W/64)}.

        With square_pad H and W are those of the square; ValueError for an image that exceeds it.
        """
        if self.square_pad:
            x = self._padded(x)
        features = {self._names[k]: v for k, v in self.bottom_up(x).items()}
        features["p6"] = self.top(features["p5"])[0]
        return features

    def _padded(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if max(height, width) > self.square_pad:
            raise ValueError(
                f"images of {width} x {height} pixels do not fit into the square of "
                f"{self.square_pad}: set model.square_pad to their size, or 0 for no square"
            )
        return F.pad(x, (0, self.square_pad - width, 0, self.square_pad - height))


def feature_pyramid(
    features: TimmFeatures, channels: int, norm: Any = "", square_pad: int = 0
) -> Backbone:
    """p2..p6: FPN over a hierarchical net; a plain ViT brings its own pyramid.

    ValueError for square_pad with a hierarchical net, which has no positions.
    """
    bottom_up = TimmBackbone(features)
    if features.pyramid is not None:
        return PyramidBackbone(bottom_up, square_pad)
    if square_pad:
        raise ValueError(f"square_pad is for plain ViTs, not for {features.arch}: set it to 0")
    return FPN(
        bottom_up=bottom_up,
        in_features=list(features.channels),
        out_channels=channels,
        norm=norm,
        top_block=LastLevelMaxPool(),
    )


def add_timm_config(cfg: CfgNode) -> None:
    """Add MODEL.TIMM to a yacs config: ARCH, ARCH_ARGS, WEIGHTS and OUT_FEATURES.

    Images become RGB with ImageNet's statistics; Detectron2's own are BGR and undivided.
    """
    cfg.INPUT.FORMAT = IMAGENET.color_order
    cfg.MODEL.PIXEL_MEAN = [255 * value for value in IMAGENET.mean]
    cfg.MODEL.PIXEL_STD = [255 * value for value in IMAGENET.std]
    cfg.MODEL.TIMM = CfgNode(
        {
            "ARCH": "resnet50",
            "ARCH_ARGS": CfgNode(new_allowed=True),
            "WEIGHTS": "none",  # an encoder file, or "none" for scratch
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        }
    )


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:  # noqa: ARG001
    """Return the backbone that cfg.MODEL.TIMM describes; its weights are read strictly.

    ValueError where the config feeds other pixels than the weights were trained with.
    """
    timm_cfg = cfg.MODEL.TIMM
    features, report, pixels = features_for(
        timm_cfg.WEIGHTS,
        timm_cfg.ARCH,
        dict(timm_cfg.ARCH_ARGS),
        out_features=tuple(timm_cfg.OUT_FEATURES),
    )
    if report is not None:
        _require_pixels(cfg, pixels, timm_cfg.WEIGHTS)
    return TimmBackbone(features)


def _require_pixels(cfg: CfgNode, pixels: PixelStats, weights: str) -> None:
    wanted = {
        "MODEL.PIXEL_MEAN": [255 * value for value in pixels.mean],
        "MODEL.PIXEL_STD": [255 * value for value in pixels.std],
    }
    given = {"MODEL.PIXEL_MEAN": cfg.MODEL.PIXEL_MEAN, "MODEL.PIXEL_STD": cfg.MODEL.PIXEL_STD}
    wrong = [f"{k}={v}" for k, v in wanted.items() if not np.allclose(v, given[k], atol=0.01)]
    if pixels.color_order != cfg.INPUT.FORMAT:
        wrong.append(f"INPUT.FORMAT={pixels.color_order}")
    if wrong:
        raise ValueError(f"{weights} was trained with other pixels: set {', '.join(wrong)}")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Return the same with FPN on top, or with the simple feature pyramid for a plain ViT."""
    features = build_timm_backbone(cfg, input_shape).features
    return feature_pyramid(features, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM)
