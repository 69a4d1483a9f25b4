"""Convolutions of small patch maps as matrix products over rows (cells, channels).

A convolution library is slow where a patch has become 1 x 1 or 2 x 2 cells: on one core, 160
maps of 1 x 1 with a 3 x 3 window over 512 channels take 148 ms forward and backward by oneDNN's
convolution, 33 ms by the product below.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.sparse.rows import as_rows


class WindowProduct(torch.autograd.Function):
    """out[o] = sum over taps t of weight[:, :, t] @ rows[taps[o, t]]; absent rows are zero.

    rows (R, C); taps (O, k k) indices of rows, R where there is none; weight (C', C, k, k).
    The gathered windows, k k times the input, are not kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
        """Return the products (O, C') of the gathered windows."""
        ctx.save_for_backward(rows, weight, taps)
        return _windows(rows, taps) @ _matrix(weight).t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients by rows and weight."""
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


class ScatterProduct(torch.autograd.Function):
    """out = base; out[output_rows[r, t]] += rows[r] @ weight[:, t] for each row r and tap t.

    rows (R, C); weight (C, k k, C'); output_rows (R, k k), indices into out, len(out) for nowhere;
    base (O / repeats, C'), repeated along the rows of out.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, output_rows: Tensor, base: Tensor, repeats: int
    ) -> Tensor:
        """Return base plus the products, added at their output rows: (O, C')."""
        ctx.save_for_backward(rows, weight, output_rows)
        ctx.repeats = repeats
        parts = (rows @ weight.flatten(1)).unflatten(1, weight.shape[1:])  # (R, k k, C')
        out = torch.cat((base.repeat(repeats, 1), base.new_empty(1, base.shape[1])))
        for tap in range(output_rows.shape[1]):
            out.index_add_(0, output_rows[:, tap], parts[:, tap])
        return out[:-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by rows, weight and base."""
        grad = grads[0]
        rows, weight, output_rows = ctx.saved_tensors
        parts = _windows(grad, output_rows)  # (R, k k C')
        grad_rows = grad_weight = grad_base = None
        if ctx.needs_input_grad[0]:
            grad_rows = parts @ weight.flatten(1).t()
        if ctx.needs_input_grad[1]:
            grad_weight = (rows.t() @ parts).view(weight.shape)
        if ctx.needs_input_grad[3]:
            grad_base = grad.unflatten(0, (ctx.repeats, -1)).sum(0)
        return grad_rows, grad_weight, None, grad_base, None


def transposed_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a transposed convolution 4 x 4, stride 2, padding 1, as a product: (B, C', 2H, 2W).

    weight (C, C', 4, 4), as in nn.ConvTranspose2d.
    """
    batch, _, height, width = x.shape
    taps = torch.arange(4, device=x.device)
    y = 2 * torch.arange(height, device=x.device)[:, None] - 1 + taps  # (H, 4) of the output
    x_ = 2 * torch.arange(width, device=x.device)[:, None] - 1 + taps
    output_rows = _output_rows(batch, (y, x_), (2 * height, 2 * width)).flatten(0, 2)
    matrix = weight.permute(0, 2, 3, 1).flatten(1, 2)
    base = bias.expand(4 * height * width, -1)
    out = ScatterProduct.apply(as_rows(x), matrix, output_rows, base, batch)
    return out.view(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


def _output_rows(batch: int, cells: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:
    """Rows (B, H, W, k k) of a map of `size` from its coordinates y (H, k) and x (W, k)."""
    (y, x), (height, width) = cells, size
    inside_y, inside_x = (y >= 0) & (y < height), (x >= 0) & (x < width)
    row = y[:, None, :, None] * width + x[None, :, None]  # (H, W, k, k)
    inside = inside_y[:, None, :, None] & inside_x[None, :, None]
    image = torch.arange(batch, device=y.device)[:, None, None, None, None] * (height * width)
    return torch.where(inside, row + image, batch * height * width).flatten(3)


def window_product(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Tensor) -> Tensor:
    """Convolve x (n, C, P, P) by its windows' taps (n, P', P', k k) -> (n, C', P', P')."""
    rows = as_rows(x)
    out = WindowProduct.apply(rows, weight.to(rows.dtype), taps.flatten(0, 2))
    out = out if bias is None else out + bias
    return out.unflatten(0, taps.shape[:3]).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    """Apply a 1 x 1 convolution as a Linear over the cells."""
    x = x[:, :, :: stride[0], :: stride[-1]]
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def _windows(rows: Tensor, taps: Tensor) -> Tensor:
    """(O, k k C): each window's rows side by side."""
    return torch.cat((rows, rows.new_zeros(1, rows.shape[1])))[taps].flatten(1)


def _matrix(weight: Tensor) -> Tensor:
    """(C', C, k, k) -> (C', k k C)."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)
