"""timm's encoders as Detectron2 backbones: the same tensors, bit for bit.

`TimmBackbone` is for LazyConfig; yacs users name `build_timm_backbone` (for FPN's bottom-up path)
or `build_timm_fpn_backbone` as MODEL.BACKBONE.NAME after `add_timm_config(cfg)`.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor

from transfer.features import TimmFeatures
from transfer.weights import features_for


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
        return self.features.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised -> {"res2": (B, C2, H/4, W/4), ...}."""
        if x.is_cpu and not torch.is_grad_enabled():  # inference of ResNets: a tenth quicker
            x = x.contiguous(memory_format=torch.channels_last)
        return self.features(x)


class PyramidBackbone(Backbone):
    """A plain ViT's simple feature pyramid as p2..p5, and p6 by pooling p5 (ViTDet, section 3)."""

    def __init__(self, bottom_up: TimmBackbone) -> None:
        super().__init__()
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
        return self.bottom_up.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {"p2": (B, C, H/4, W/4), ..., "p6": (B, C, H/64, W/64)}."""
        features = {self._names[k]: v for k, v in self.bottom_up(x).items()}
        features["p6"] = self.top(features["p5"])[0]
        return features


def feature_pyramid(features: TimmFeatures, channels: int, norm: Any = "") -> Backbone:
    """p2..p6: FPN over a hierarchical net; a plain ViT brings its own pyramid."""
    bottom_up = TimmBackbone(features)
    if features.pyramid is not None:
        return PyramidBackbone(bottom_up)
    return FPN(
        bottom_up=bottom_up,
        in_features=list(features.channels),
        out_channels=channels,
        norm=norm,
        top_block=LastLevelMaxPool(),
    )


def add_timm_config(cfg: CfgNode) -> None:
    """Add MODEL.TIMM to a yacs config: ARCH, ARCH_ARGS, WEIGHTS and OUT_FEATURES."""
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
    """The backbone that cfg.MODEL.TIMM describes; its weights are read strictly."""
    timm_cfg = cfg.MODEL.TIMM
    features, _, _ = features_for(
        timm_cfg.WEIGHTS,
        timm_cfg.ARCH,
        dict(timm_cfg.ARCH_ARGS),
        out_features=tuple(timm_cfg.OUT_FEATURES),
    )
    return TimmBackbone(features)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The same with FPN on top, or with the simple feature pyramid for a plain ViT."""
    features = build_timm_backbone(cfg, input_shape).features
    return feature_pyramid(features, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM)
