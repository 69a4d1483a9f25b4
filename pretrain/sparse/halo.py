"""Windows that reach past a patch: the patch with a halo of its neighbours' cells around it.

On the CPU they are gathered, and the copies with the halo, half as large again at 8 x 8 cells, are
made again for the backward pass instead of being kept. Elsewhere they come from canvas.py.
"""

from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.kernels.convolution import own_backward
from pretrain.sparse.canvas import canvas_conv, visible_windows
from pretrain.sparse.rows import as_rows
from pretrain.sparse.view import PatchView, Reach


def halo_conv(x: Tensor, conv: nn.Conv2d, view: PatchView, reach: Reach) -> Tensor:
    """Convolve x (n, C, P, P) by `conv`, whatever its padding: the halo takes its place."""
    if not own_backward(x):
        return canvas_conv(x, conv, view, reach)
    options = (conv.stride, conv.dilation, conv.groups)
    windows = view.rows_of_window(x.shape[2], *reach)
    return HaloConv.apply(x, conv.weight, conv.bias, windows, reach, options)


def halo_max_pool(x: Tensor, pool: nn.MaxPool2d, view: PatchView, reach: Reach) -> Tensor:
    """Pool x (n, C, P, P) by `pool`: masked cells compete as zeros, the border does not."""
    options = (pool.kernel_size, pool.stride, 0, pool.dilation)
    if not own_backward(x):
        return F.max_pool2d(visible_windows(x, view, reach, float("-inf")), *options)
    return HaloMaxPool.apply(x, view.rows_of_window(x.shape[2], *reach), reach, options)


def halo_avg_pool(x: Tensor, pool: nn.AvgPool2d, view: PatchView, reach: Reach) -> Tensor:
    """Pool x (n, C, P, P) by `pool`: masked cells and the border count as zeros."""
    return F.avg_pool2d(visible_windows(x, view, reach), pool.kernel_size, pool.stride, 0)


class HaloConv(torch.autograd.Function):
    """Keeps x (n, C, P, P), not its copy with the halo."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        windows: Tensor,
        reach: Reach,
        options: tuple[Any, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, windows)
        ctx.reach, ctx.options, ctx.bias_sizes = (
            reach,
            options,
            None if bias is None else [len(bias)],
        )
        stride, *rest = options
        return F.conv2d(_gather(x, windows), weight, bias, stride, 0, *rest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, windows = ctx.saved_tensors
        stride, dilation, groups = ctx.options
        needed = list(ctx.needs_input_grad[:3])
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grads[0],
            _gather(x, windows),
            weight,
            ctx.bias_sizes,
            stride,
            [0, 0],
            dilation,
            False,
            [0, 0],
            groups,
            needed,
        )
        if needed[0]:
            grad_x = _return(grad_x, windows, ctx.reach, x.shape[2])
        return grad_x, grad_weight, grad_bias, None, None, None


class HaloMaxPool(torch.autograd.Function):
    """Keeps which cell of each window was the largest, four bytes each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, windows: Tensor, reach: Reach, options: tuple[Any, ...]
    ) -> Tensor:
        out, largest = F.max_pool2d(
            _gather(x, windows, float("-inf")), *options, return_indices=True
        )
        ctx.save_for_backward(largest.int(), windows)
        ctx.reach, ctx.options, ctx.size = reach, options, x.shape[2]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        largest, windows = ctx.saved_tensors
        n, channels = grads[0].shape[:2]
        padded = grads[0].new_empty(n, *windows.shape[1:], channels).permute(0, 3, 1, 2)
        grad = torch.ops.aten.max_pool2d_with_indices_backward(
            grads[0], padded, *map(to_2tuple, ctx.options), False, largest.long()
        )
        return _return(grad, windows, ctx.reach, ctx.size), None, None, None


def _gather(x: Tensor, windows: Tensor, outside: float = 0.0) -> Tensor:
    rows = as_rows(x)
    missing = torch.stack((torch.zeros_like(rows[0]), torch.full_like(rows[0], outside)))
    return torch.cat((rows, missing))[windows].permute(0, 3, 1, 2)


def _return(grad: Tensor, windows: Tensor, reach: Reach, size: int) -> Tensor:
    """The gradient by x of `_gather`: each halo cell's goes to the cell that it is a copy of."""
    (top, _), (left, _) = reach
    inside = torch.zeros(windows.shape[1:], dtype=torch.bool)
    inside[top : top + size, left : left + size] = True
    halo = windows[:, ~inside]  # (n, cells)
    known = halo < windows.shape[0] * size * size  # neither masked nor off the image
    cells = grad.permute(0, 2, 3, 1)  # (n, .., .., C)
    own = cells[:, top : top + size, left : left + size].contiguous()
    rows = own.view(-1, own.shape[3])
    rows.index_add_(0, halo[known], cells[:, ~inside][known])
    return own.permute(0, 3, 1, 2)
