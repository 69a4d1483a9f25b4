"""Layers for visible patches as the batch: timm's own, given their neighbours where they look.

Everything pointwise, LayerNorm and BatchNorm are right as they are. A window that reaches past
the patch gets a halo of neighbouring cells, zero where masked or outside of the image.
"""

from typing import Any

from timm.layers import DropPath, EffectiveSEModule, SEModule, to_2tuple
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.kernels import on_cpu, supports
from pretrain.kernels.ops import MAX_TAPS
from pretrain.sparse.depthwise import visible_depthwise
from pretrain.sparse.excitation import EXCITATIONS, gates, inside_excitations, is_excitation
from pretrain.sparse.halo import halo_avg_pool, halo_conv, halo_max_pool
from pretrain.sparse.products import pointwise, window_product
from pretrain.sparse.response_norm import ResponseNorm
from pretrain.sparse.view import NO_HALO, Halo, MaskSlot, PatchView, Reach


def window_halo(kernel: int, stride: int, padding: int, dilation: int) -> Halo:
    """Cells a window reaches before the first and after the last cell of a patch."""
    return padding, max(0, dilation * (kernel - 1) - padding - stride + 1)


class PatchLayer:
    """What the swapped layers share: `slot` holds the mask of the running forward pass."""

    slot: MaskSlot
    halo: Reach

    def view(self) -> PatchView | None:
        """Return the mask of the running forward pass; None outside of one."""
        return self.slot.view  # type: ignore[return-value]


class PatchConvolution(PatchLayer):
    """What the two kinds of convolution share."""

    @property
    def centred_depthwise(self: Any) -> bool:
        """Return whether it has a square filter a channel, stride 1, reaching equally far."""
        (before, after), horizontal = self.halo
        return (
            self.groups == self.in_channels == self.out_channels
            and self.stride == self.dilation == (1, 1)
            and before == after == horizontal[0] == horizontal[1] > 0
            and self.weight[0].numel() <= MAX_TAPS
        )

    def convolve(self: Any, x: Tensor, view: PatchView) -> Tensor:
        """With a halo where the windows reach past the patch; small maps as a matrix product."""
        kernel, stride, size = self.kernel_size, self.stride, x.shape[2]
        if on_cpu(x) and self.groups == 1 and size == x.shape[3]:
            if kernel == (1, 1) and (size <= 4 or stride != (1, 1)):
                return pointwise(x, self.weight, self.bias, stride)
            small = size // stride[0] <= 2 and max(kernel) > 1 and stride[0] == stride[1]
            if small and self.dilation == (1, 1):
                taps = view.rows_of_taps(size, self.halo[0], self.halo[1], kernel, stride[0])
                return window_product(x, self.weight, self.bias, taps)
        if self.centred_depthwise and supports(x) and size == x.shape[3]:
            entries = view.visible_entries(size, self.halo[0])
            return visible_depthwise(x, self.weight, self.bias, entries)
        if self.halo != NO_HALO:
            return halo_conv(x, self, view, self.halo)
        return F.conv2d(x, self.weight, self.bias, stride, 0, self.dilation, self.groups)


class PatchConv2d(PatchConvolution, nn.Conv2d):
    """A convolution; its windows may reach past the patch."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the patches (n, C, P, P), or a whole map outside of a masked pass."""
        view = self.view()
        return super().forward(x) if view is None else self.convolve(x, view)


class PatchConv2dSame(PatchConvolution, Conv2dSame):
    """TensorFlow's "same" padding: timm's Conv2dSame pads the smaller half before."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the patches (n, C, P, P), or a whole map outside of a masked pass."""
        view = self.view()
        return super().forward(x) if view is None else self.convolve(x, view)


class PatchMaxPool2d(PatchLayer, nn.MaxPool2d):
    """Masked cells compete as zeros, as in a dense map times the mask."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool the patches (n, C, P, P), or a whole map outside of a masked pass."""
        view = self.view()
        if view is None:
            return super().forward(x)
        return halo_max_pool(x, self, view, self.halo)


class PatchAvgPool2d(PatchLayer, nn.AvgPool2d):
    """Masked cells and the border count as zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool the patches (n, C, P, P), or a whole map outside of a masked pass."""
        view = self.view()
        if view is None:
            return super().forward(x)
        return halo_avg_pool(x, self, view, self.halo)


class PatchGlobalResponseNorm(PatchLayer, GlobalResponseNorm):
    """Norms over all visible positions of an image: its patches are laid end to end."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the visible positions per image; the shape is kept."""
        view = self.view()
        if view is None:
            return super().forward(x)
        last = x.permute(0, 2, 3, 1) if self.channel_dim == 1 else x  # (n, P, P, C)
        rows = last.reshape(view.batch, -1, last.shape[3])
        out = ResponseNorm.apply(rows, self.weight, self.bias, self.eps).view(last.shape)
        return out.permute(0, 3, 1, 2) if self.channel_dim == 1 else out


class PatchExcitation(PatchLayer):
    """Squeeze-excitation whose means are those of all visible patches of an image."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Scale the channels of the patches (n, C, P, P), of each image alike."""
        view = self.view()
        if view is None:
            return super().forward(x)  # type: ignore[misc]
        means = x.unflatten(0, (view.batch, view.count)).mean((1, 3, 4))  # (B, C)
        factors = gates(self, means[:, :, None, None])
        return x * factors.repeat_interleave(view.count, 0)


class PatchSqueezeExcite(PatchExcitation, SqueezeExcite):
    """That of EfficientNet, MobileNetV3 and GhostNet."""


class PatchSEModule(PatchExcitation, SEModule):
    """That of SENet, RegNetY and RexNet."""


class PatchEffectiveSEModule(PatchExcitation, EffectiveSEModule):
    """That of VoVNet."""


class PatchDropPath(PatchLayer, DropPath):
    """Drops whole images: one draw for all patches of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale or drop the patches (n, C, P, P) of each image together."""
        view = self.view()
        if view is None or not self.training or self.drop_prob == 0.0:
            return super().forward(x)
        keep = 1 - self.drop_prob
        scale = x.new_empty(view.batch).bernoulli_(keep)
        if keep > 0 and self.scale_by_keep:
            scale = scale / keep
        return x * scale.repeat_interleave(view.count)[:, None, None, None]


def layer_halo(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> Reach:
    """Return the halo of a layer's windows, (vertical, horizontal)."""
    kernel, stride = to_2tuple(module.kernel_size), to_2tuple(module.stride)
    dilation = to_2tuple(getattr(module, "dilation", 1))
    if isinstance(module, Conv2dSame):
        reach = [
            max(0, d * (k - 1) + 1 - s) for k, s, d in zip(kernel, stride, dilation, strict=True)
        ]
        vertical, horizontal = ((r // 2, r - r // 2) for r in reach)
        return vertical, horizontal
    if isinstance(module.padding, str):
        padding = tuple(
            d * (k - 1) // 2 if module.padding == "same" else 0
            for k, d in zip(kernel, dilation, strict=True)
        )
    else:
        padding = to_2tuple(module.padding)
    vertical, horizontal = (
        window_halo(k, s, p, d)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    )
    return vertical, horizontal


PATCH_LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv2d: PatchConv2d,
    Conv2dSame: PatchConv2dSame,
    nn.MaxPool2d: PatchMaxPool2d,
    nn.AvgPool2d: PatchAvgPool2d,
    GlobalResponseNorm: PatchGlobalResponseNorm,
    SqueezeExcite: PatchSqueezeExcite,
    SEModule: PatchSEModule,
    EffectiveSEModule: PatchEffectiveSEModule,
    DropPath: PatchDropPath,
}


def use_patches(root: nn.Module, slot: MaskSlot) -> None:
    """Swap, in place and under the same names, the layers of `root` that look past a patch."""
    inside = inside_excitations(root)
    for module in root.modules():
        layer = PATCH_LAYERS.get(type(module))
        pooled_otherwise = type(module) in EXCITATIONS and not is_excitation(module)
        if layer is None or id(module) in inside or pooled_otherwise:
            continue
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            halo = layer_halo(module)
            if halo == NO_HALO and not isinstance(module, nn.Conv2d):
                continue
            module.halo = halo  # type: ignore[assignment]
        module.__class__ = layer
        module.slot = slot  # type: ignore[assignment]


def use_plain(root: nn.Module) -> None:
    """Undo `use_patches`."""
    plain = {layer: original for original, layer in PATCH_LAYERS.items()}
    for module in root.modules():
        module.__class__ = plain.get(type(module), type(module))
