"""The reference: whole maps, multiplied by the mask after each layer (SparK `encoder.py`).

Norms see the visible positions only: gathered, normalised, scattered into zeros. A Linear's bias
fills masked cells; a ConvNeXt MLP is therefore masked at its end, as SparK's block is.
"""

from typing import Any, TypeVar

import torch
from timm.layers import EffectiveSEModule, GlobalResponseNormMlp, Mlp, SEModule
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import LayerNorm2d as TimmLayerNorm2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.run.batch_norm import synchronised
from pretrain.sparse.excitation import gates, inside_excitations
from pretrain.sparse.rows import select_rows
from pretrain.sparse.view import DenseView, MaskSlot

M = TypeVar("M", bound=nn.Module)


class DenseLayer:
    """What the swapped layers share: `slot` holds the mask of the running forward pass."""

    slot: MaskSlot
    channels_last = False  # (B, H, W, C) rather than (B, C, H, W)

    def view(self) -> DenseView | None:
        """Return the mask of the running forward pass; None outside of one."""
        return self.slot.view  # type: ignore[return-value]

    def plain(self, x: Tensor) -> Tensor:
        """Run timm's own forward: that of the class after the masked ones."""
        layer = type(self).__mro__
        own = layer.index(DenseLayer) + 1
        return layer[own].forward(self, x)  # type: ignore[attr-defined]


class MaskedOutput(DenseLayer):
    """The layer, then its output times the mask."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer and set masked positions of its output to zero."""
        x = self.plain(x)
        view = self.view()
        if view is None:
            return x
        if self.channels_last:
            return x.mul_(view.mask_like(x, x.shape[1]).permute(0, 2, 3, 1))
        return x.mul_(view.mask_like(x, x.shape[2]))


class OverVisible(DenseLayer):
    """The layer over the visible positions alone, given as (positions, C); zeros elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer on the visible positions of (B, C, H, W) or (B, H, W, C)."""
        view = self.view()
        if view is None:
            return self.plain(x)
        last = x if self.channels_last else x.permute(0, 2, 3, 1)  # (B, H, W, C)
        positions = view.cell_of_row(last.shape[1] // view.h)
        rows = self.rows(select_rows(last.reshape(-1, last.shape[3]), positions))
        out = rows.new_zeros(last[..., 0].numel(), last.shape[3])
        out = out.index_copy_(0, positions, rows).view(last.shape)
        return out if self.channels_last else out.permute(0, 3, 1, 2)

    def rows(self, rows: Tensor) -> Tensor:
        """Run the layer on rows (positions, C)."""
        return self.plain(rows)


class _AsMap(OverVisible):
    """For layers that insist on four dimensions: each position as an image of one pixel."""

    def rows(self, rows: Tensor) -> Tensor:
        return self.plain(rows[:, :, None, None])[:, :, 0, 0]


class DenseConv2d(MaskedOutput, nn.Conv2d):
    """Conv2d whose output is masked."""


class DenseConv2dSame(MaskedOutput, Conv2dSame):
    """Conv2dSame whose output is masked."""


class DenseMaxPool2d(MaskedOutput, nn.MaxPool2d):
    """MaxPool2d whose output is masked."""


class DenseAvgPool2d(MaskedOutput, nn.AvgPool2d):
    """AvgPool2d whose output is masked."""


class DenseBatchNorm2d(OverVisible, nn.BatchNorm2d):
    """BatchNorm2d over visible positions."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Rows (positions, C) are as good as maps."""


class DenseBatchNormAct2d(_AsMap, BatchNormAct2d):
    """BatchNormAct2d over visible positions."""


class DenseLayerNorm2d(_AsMap, TimmLayerNorm2d):
    """LayerNorm2d over visible positions."""


class DenseLayerNorm(OverVisible, TimmLayerNorm):
    """LayerNorm over visible positions, channels last."""

    channels_last = True


class DenseMlp(MaskedOutput, Mlp):
    """Mlp whose output is masked, channels last."""

    channels_last = True


class DenseGrnMlp(MaskedOutput, GlobalResponseNormMlp):
    """GlobalResponseNormMlp whose output is masked, channels last."""

    channels_last = True


class DenseGlobalResponseNorm(DenseLayer, GlobalResponseNorm):
    """The norm over an image's visible positions (ConvNeXt-V2 TRAINING.md, the JAX snippet).

    In the type of its input: under CUDA's autocast timm's own returns float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the visible positions; the shape is kept."""
        view = self.view()
        if view is None:
            return self.plain(x)
        mask = view.mask_like(x, x.shape[self.spatial_dim[0]])
        if self.channel_dim == -1:
            mask = mask.permute(0, 2, 3, 1)
        return self.plain(x * mask).to(x.dtype)


class DenseExcitation(DenseLayer):
    """Squeeze-excitation whose means are those of the visible positions of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (B, C, H, W); what is zero stays zero."""
        view = self.view()
        if view is None:
            return self.plain(x)
        mask = view.mask_like(x, x.shape[2])
        means = (x * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
        return x * gates(self, means)


class DenseSqueezeExcite(DenseExcitation, SqueezeExcite):
    """That of EfficientNet, MobileNetV3 and GhostNet."""


class DenseSEModule(DenseExcitation, SEModule):
    """That of SENet, RegNetY and RexNet."""


class DenseEffectiveSEModule(DenseExcitation, EffectiveSEModule):
    """That of VoVNet."""


DENSE_LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv2d: DenseConv2d,
    Conv2dSame: DenseConv2dSame,
    nn.MaxPool2d: DenseMaxPool2d,
    nn.AvgPool2d: DenseAvgPool2d,
    nn.BatchNorm2d: DenseBatchNorm2d,
    BatchNormAct2d: DenseBatchNormAct2d,
    TimmLayerNorm2d: DenseLayerNorm2d,
    TimmLayerNorm: DenseLayerNorm,
    GlobalResponseNorm: DenseGlobalResponseNorm,
    SqueezeExcite: DenseSqueezeExcite,
    SEModule: DenseSEModule,
    EffectiveSEModule: DenseEffectiveSEModule,
}


def use_dense(root: nn.Module, slot: MaskSlot) -> None:
    """Swap, in place and under the same names, the layers of `root` for their masked forms."""
    inside = inside_excitations(root)
    for module in root.modules():
        layer = None if id(module) in inside else DENSE_LAYERS.get(type(module))
        if type(module) is Mlp and isinstance(module.fc1, nn.Linear):
            layer = DenseMlp
        if type(module) is GlobalResponseNormMlp and isinstance(module.fc1, nn.Linear):
            layer = DenseGrnMlp
        if layer is not None:
            module.__class__ = layer
            module.slot = slot  # type: ignore[assignment]


def over_visible(norm: nn.Module, slot: MaskSlot) -> None:
    """Make a norm that takes (N, C), of whatever class, see the visible positions only."""
    norm.__class__ = type(f"Dense{type(norm).__name__}", (OverVisible, type(norm)), {})
    norm.slot = slot  # type: ignore[assignment]


def synchronised_over_visible(method: M, device: torch.device) -> M:
    """Synchronise every BatchNorm over the processes; those that see a mask keep it."""
    slots = {
        name: module.slot
        for name, module in method.named_modules()
        if isinstance(module, DenseLayer) and isinstance(module, _BatchNorm)
    }
    method = synchronised(method, device)
    for name, slot in slots.items():
        over_visible(method.get_submodule(name), slot)
    return method
