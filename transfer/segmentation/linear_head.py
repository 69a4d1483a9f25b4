"""A linear classifier of every pixel on frozen maps: what a representation tells as it is."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """BatchNorm and a 1 x 1 convolution on maps resized to the first one and joined.

    As DINOv2's BNHead (facebookresearch/dinov2 at b8931f7,
    dinov2/eval/segmentation/models/decode_heads/linear_head.py). `in_channels` and `in_index` are
    lists of equal length.
    """

    def __init__(self, in_channels: Sequence[int], **settings: Any) -> None:
        width = sum(in_channels)
        super().__init__(in_channels, width, input_transform="resize_concat", **settings)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the first of the maps."""
        return self.cls_seg(self.norm(self._transform_inputs(maps)))
