"""Convolutions of whole maps on the CPU, channels last: quicker, and with less kept for backward.

oneDNN takes half as long forward and by the input in channels last as in channels first, and
twice as long by the weight: that one comes from the C kernel where it is available. A normalised
map is not kept: it is computed again from the map before the norm, in one pass.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.kernels import conv3x3_weight_grad, on_cpu, supports

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with stride 1 and padding 1: (B, C, H, W) -> (B, C', H, W)."""
    if supports(x) and weight.dtype == x.dtype:
        return Conv3x3.apply(x.contiguous(memory_format=torch.channels_last), weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def norm_conv(x: Tensor, norm: nn.Module, conv: nn.Conv2d, relu6: nn.ReLU6 | None = None) -> Tensor:
    """Return conv(norm(x)), or conv(relu6(norm(x))), where conv keeps the size of the map."""
    hooked = relu6 is not None and relu6._forward_hooks
    if recompute_by_hand(x) and type(norm) is nn.BatchNorm2d and norm.training and not hooked:
        parameters = (norm.weight, norm.bias, conv.weight, conv.bias)
        return NormConv.apply(x, *parameters, norm, relu6 is not None)
    x = norm(x)
    x = x if relu6 is None else relu6(x)
    return conv3x3(x, conv.weight, conv.bias) if conv.kernel_size == (3, 3) else conv(x)


def recompute_by_hand(x: Tensor) -> bool:
    """Return whether to trade passes over `x` for memory by hand, as torch.compile does itself."""
    return on_cpu(x) and not torch.compiler.is_compiling()


class Conv3x3(torch.autograd.Function):
    """A convolution in channels last whose gradient by the weight is the C kernel's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x (B, C, H, W), stride 1, padding 1."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        """Return the gradients by x, weight and bias."""
        x, weight = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2])
        return conv_gradients(grads[0], x, weight, needed)


class NormConv(torch.autograd.Function):
    """nn.BatchNorm2d in training, ReLU6 or not, convolution; keeps only the map before them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        norm: nn.BatchNorm2d,
        relu6: bool,
    ) -> Tensor:
        """Normalise x (B, C, H, W) by the batch's statistics, apply ReLU6 if asked, convolve."""
        assert norm.momentum is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        y, mean, inverse_std = torch.native_batch_norm(
            x, gamma, beta, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
        )
        ctx.save_for_backward(x, gamma, beta, weight, mean, inverse_std)
        ctx.eps, ctx.relu6, ctx.has_bias = norm.eps, relu6, bias is not None
        y = y.clamp_(0, 6) if relu6 else y
        return F.conv2d(y, weight, bias, padding=weight.shape[2] // 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients, with the normalised map computed again."""
        x, gamma, beta, weight, mean, inverse_std = ctx.saved_tensors
        scale = gamma * inverse_std
        shift = beta - mean * scale
        y = torch.addcmul(shift[:, None, None], x, scale[:, None, None])
        y = y.clamp_(0, 6) if ctx.relu6 else y
        needed = (True, ctx.needs_input_grad[3], ctx.has_bias and ctx.needs_input_grad[4])
        grad, grad_weight, grad_bias = conv_gradients(grads[0], y, weight, needed)
        if ctx.relu6:
            grad = torch.ops.aten.hardtanh_backward(grad, y, 0, 6)
        by_norm = torch.ops.aten.native_batch_norm_backward(
            grad, x, gamma, None, None, mean, inverse_std, True, ctx.eps, [True, True, True]
        )
        return *by_norm, grad_weight, grad_bias, None, None


def conv_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool, bool]
) -> Gradients:
    """Return a stride-1, same-size convolution's gradients by x, weight, bias, those `needed`."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    by_x, by_weight, by_bias = needed
    by_kernel = by_weight and weight.shape[2] == 3 and supports(x)
    padding, one = [weight.shape[2] // 2] * 2, [1, 1]
    wanted = [by_x, by_weight and not by_kernel, False]
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, one, padding, one, False, [0, 0], 1, wanted
    )
    if by_kernel:
        grad_weight = conv3x3_weight_grad(x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1))
    return grad_x, grad_weight, grad.sum((0, 2, 3)) if by_bias else None
