"""Layers for visible patches as the batch: timm's own, given their neighbours where they look.

Everything pointwise, LayerNorm and BatchNorm are right as they are. A window that reaches past
the patch gets a halo of neighbouring cells, zero where masked or outside of the image.
"""

from typing import Any

import torch
from timm.layers import DropPath
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.sparse.view import Halo, MaskSlot, PatchView, as_rows


def window_halo(kernel: int, stride: int, padding: int, dilation: int) -> Halo:
    """Cells a window reaches before the first and after the last cell of a patch."""
    return padding, max(0, dilation * (kernel - 1) - padding - stride + 1)


def with_halo(
    x: Tensor, view: PatchView, vertical: Halo, horizontal: Halo, outside: float = 0.0
) -> Tensor:
    """(n, C, P, P) -> (n, C, P + before + after, ...); 0 where masked, `outside` off the image."""
    rows = as_rows(x)
    missing = torch.stack((torch.zeros_like(rows[0]), torch.full_like(rows[0], outside)))
    windows = view.windows(x.shape[2], vertical, horizontal)
    return torch.cat((rows, missing))[windows].permute(0, 3, 1, 2)


class PatchLayer:
    """What the swapped layers share: `slot` holds the mask of the running forward pass."""

    slot: MaskSlot
    halo: tuple[Halo, Halo]

    def view(self) -> PatchView | None:
        return self.slot.view  # type: ignore[return-value]


class PatchConv2d(PatchLayer, nn.Conv2d):
    """A convolution whose windows reach past the patch."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None:
            return super().forward(x)
        x = with_halo(x, view, *self.halo)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class PatchConv2dSame(PatchLayer, Conv2dSame):
    """TensorFlow's "same" padding: timm's Conv2dSame pads the smaller half before."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None:
            return super().forward(x)
        x = with_halo(x, view, *self.halo)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class PatchMaxPool2d(PatchLayer, nn.MaxPool2d):
    """Masked cells compete as zeros, as in a dense map times the mask; the border does not."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None:
            return super().forward(x)
        x = with_halo(x, view, *self.halo, outside=float("-inf"))
        return F.max_pool2d(x, self.kernel_size, self.stride, 0, self.dilation)


class PatchAvgPool2d(PatchLayer, nn.AvgPool2d):
    """Masked cells and the border count as zeros."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None:
            return super().forward(x)
        x = with_halo(x, view, *self.halo)
        return F.avg_pool2d(x, self.kernel_size, self.stride, 0)


class PatchGlobalResponseNorm(PatchLayer, GlobalResponseNorm):
    """Norms over all visible positions of an image: its patches are laid end to end."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None:
            return super().forward(x)
        if self.channel_dim == 1:
            rows = x.permute(0, 2, 3, 1).reshape(view.batch, -1, 1, x.shape[1])
            out = super().forward(rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return out.reshape(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
        return super().forward(x.reshape(view.batch, -1, 1, x.shape[3])).view(x.shape)


class PatchDropPath(PatchLayer, DropPath):
    """Drops whole images: one draw for all patches of an image."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.view()
        if view is None or not self.training or self.drop_prob == 0.0:
            return super().forward(x)
        keep = 1 - self.drop_prob
        scale = x.new_empty(view.batch).bernoulli_(keep)
        if keep > 0 and self.scale_by_keep:
            scale = scale / keep
        return x * scale.repeat_interleave(view.count)[:, None, None, None]


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def layer_halo(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> tuple[Halo, Halo]:
    """The halo of a layer's windows, (vertical, horizontal)."""
    kernel, stride = pair(module.kernel_size), pair(module.stride)
    dilation = pair(getattr(module, "dilation", 1))
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
        padding = pair(module.padding)
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
    DropPath: PatchDropPath,
}


def use_patches(root: nn.Module, slot: MaskSlot) -> None:
    """Swap, in place and under the same names, the layers of `root` that look past a patch."""
    for module in root.modules():
        layer = PATCH_LAYERS.get(type(module))
        if layer is None:
            continue
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            halo = layer_halo(module)
            if halo == ((0, 0), (0, 0)):
                continue
            module.halo = halo  # type: ignore[assignment]
        module.__class__ = layer
        module.slot = slot  # type: ignore[assignment]
