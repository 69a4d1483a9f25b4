"""Convolutions of small patch maps as matrix products over rows (cells, channels).

A convolution library is slow where a patch has become 1 x 1 or 2 x 2 cells: on one core, 160
maps of 1 x 1 with a 3 x 3 window over 512 channels take 148 ms forward and backward by oneDNN's
convolution, 33 ms by the product below.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.sparse.view import as_rows


class WindowProduct(torch.autograd.Function):
    """out[o] = sum over taps t of weight[:, :, t] @ rows[taps[o, t]]; absent rows are zero.

    rows (R, C); taps (O, k k) indices of rows, R where there is none; weight (C', C, k, k).
    The gathered windows, k k times the input, are not kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight, taps)
        return _windows(rows, taps) @ _matrix(weight).t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        rows, weight, taps = ctx.saved_tensors
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[1]:
            product = grad.t() @ _windows(rows, taps)  # (C', k k C)
            channels, _, *kernel = weight.shape
            grad_weight = product.view(channels, *kernel, -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            parts = (grad @ _matrix(weight)).unflatten(1, (taps.shape[1], -1))  # (O, k k, C)
            padded = rows.new_zeros(rows.shape[0] + 1, rows.shape[1])
            for tap in range(taps.shape[1]):
                padded.index_add_(0, taps[:, tap], parts[:, tap])
            grad_rows = padded[:-1]
        return grad_rows, grad_weight, None


def window_product(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Tensor) -> Tensor:
    """A convolution of x (n, C, P, P) by its windows' taps (n, P', P', k k) -> (n, C', P', P')."""
    rows = as_rows(x)
    out = WindowProduct.apply(rows, weight.to(rows.dtype), taps.flatten(0, 2))
    out = out if bias is None else out + bias
    return out.unflatten(0, taps.shape[:3]).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    """A 1 x 1 convolution as a Linear over the cells."""
    x = x[:, :, :: stride[0], :: stride[-1]]
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def _windows(rows: Tensor, taps: Tensor) -> Tensor:
    """(O, k k C): each window's rows side by side."""
    return torch.cat((rows, rows.new_zeros(1, rows.shape[1])))[taps].flatten(1)


def _matrix(weight: Tensor) -> Tensor:
    """(C', C, k, k) -> (C', k k C)."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)
