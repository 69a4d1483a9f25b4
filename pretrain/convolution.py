"""3 x 3 convolutions of whole maps, channels last, with a quick gradient by the weight.

oneDNN takes half as long forward and by the input in channels last as in channels first, and
twice as long by the weight: that one comes from the C kernel where it is available.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.kernels import conv3x3_weight_grad, supports


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Stride 1, padding 1: (B, C, H, W) -> (B, C', H, W)."""
    if supports(x) and weight.dtype == x.dtype:
        return Conv3x3.apply(x.contiguous(memory_format=torch.channels_last), weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


class Conv3x3(torch.autograd.Function):
    """A convolution in channels last whose gradient by the weight is the C kernel's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            one = [1, 1]
            grad_x = torch.ops.aten.convolution_backward(
                grad, x, weight, None, one, one, one, False, [0, 0], 1, [True, False, False]
            )[0]
        if ctx.needs_input_grad[1]:
            grad_weight = conv3x3_weight_grad(x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1))
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias
