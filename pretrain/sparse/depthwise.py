"""Depthwise convolutions over visible cells alone, by the C kernel."""

from typing import Any

import torch
from torch import Tensor

from pretrain.kernels import depthwise, depthwise_weight_grad
from pretrain.sparse.rows import as_rows

Entries = tuple[Tensor, Tensor, Tensor]  # as `kernels.window_entries` gives them


class VisibleDepthwise(torch.autograd.Function):
    """out[o] = bias + sum over visible neighbours of weight[tap] * rows[neighbour].

    rows (R, C); weight (C, 1, k, k), k odd, centred, stride 1: then the gradient by the rows is
    the same operation with the weight turned by half a turn.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, *entries: Tensor
    ) -> Tensor:
        """Convolve rows (R, C) over their visible neighbours."""
        ctx.save_for_backward(rows, weight, *entries)
        ctx.has_bias = bias is not None
        return depthwise(rows, weight.flatten(1).t(), bias, *entries)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by rows, weight and bias."""
        grad = grads[0].contiguous()
        rows, weight, *entries = ctx.saved_tensors
        grad_rows = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.flatten(1).flip(1).t()
            grad_rows = depthwise(grad, turned, None, *entries)
        if ctx.needs_input_grad[1]:
            taps = weight[0].numel()
            grad_weight = (
                depthwise_weight_grad(rows, grad, *entries, taps).t().reshape(weight.shape)
            )
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0)
        return grad_rows, grad_weight, grad_bias, None, None, None


def visible_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, entries: Entries) -> Tensor:
    """Convolve x (n, C, P, P) over its visible neighbours; the shape stays."""
    out = VisibleDepthwise.apply(as_rows(x), weight, bias, *entries)
    return out.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)
