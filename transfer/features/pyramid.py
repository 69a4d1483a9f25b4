"""Plain ViT maps at one stride -> maps at strides 4, 8, 16, 32.

SimplePyramid: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection
(ViTDet), section 3, from the last map alone. BlockPyramid: microsoft/unilm
beit/semantic_segmentation/backbone/beit.py, from a different block for each level.
"""

from collections.abc import Mapping, Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn


class SimplePyramid(nn.Module):
    """(B, C, h, w) of the last block -> {name: (B, out_channels, ...)}, a LayerNorm after each convolution."""  # noqa: E501

    def __init__(
        self, in_channels: int, out_channels: int, patch_px: int, strides: Mapping[str, int]
    ) -> None:
        super().__init__()
        for name, stride in strides.items():
            scaled, channels = _rescale(in_channels, patch_px / stride)
            self.add_module(
                name,
                nn.Sequential(
                    scaled,
                    nn.Conv2d(channels, out_channels, 1, bias=False),
                    LayerNorm2d(out_channels, eps=1e-6),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                    LayerNorm2d(out_channels, eps=1e-6),
                ),
            )

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return {name: map} of all levels from one map (B, C, h, w)."""
        (last,) = maps
        return {name: level(last) for name, level in self.named_children()}


def _rescale(channels: int, scale: float) -> tuple[nn.Module, int]:
    """Build a module that scales a map, and return it with its output channels.

    Each doubling halves the channels.
    """
    half, quarter = channels // 2, channels // 4
    if scale == 4:
        up = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, 2),
            LayerNorm2d(half, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )
        return up, quarter
    if scale == 2:
        return nn.ConvTranspose2d(channels, half, 2, 2), half
    return _same_or_smaller(scale), channels


class BlockPyramid(nn.Module):
    """Raw maps of one block per level, each (B, C, h, w) -> {name: (B, C, ...)}; no norm.

    The official code has a SyncBatchNorm here: convert the BatchNorm if there are several processes.
    """

    def __init__(self, channels: int, patch_px: int, strides: Mapping[str, int]) -> None:
        super().__init__()
        for name, stride in strides.items():
            self.add_module(name, _rescale_in_place(channels, patch_px / stride))

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return {name: map}, level by level, from as many maps (B, C, h, w)."""
        levels = zip(self.named_children(), maps, strict=True)
        return {name: level(m) for (name, level), m in levels}


def _rescale_in_place(channels: int, scale: float) -> nn.Module:
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, 2),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, 2),
        )
    if scale == 2:
        return nn.ConvTranspose2d(channels, channels, 2, 2)
    return _same_or_smaller(scale)


def _same_or_smaller(scale: float) -> nn.Module:
    if scale == 1:
        return nn.Identity()
    if scale in (0.5, 0.25):  # ceil_mode: an odd map keeps its last row and column
        return nn.MaxPool2d(round(1 / scale), ceil_mode=True)
    raise ValueError(
        f"no pyramid level scales a map by {scale}: the patch size has to be 8 or 16 px "
        "(give arch_args={'patch_size': 16}; the patch embedding is resized when weights load)"
    )
