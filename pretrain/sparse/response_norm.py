"""Global response normalisation per image, with few passes over its wide tensors."""

from typing import Any

import torch
from torch import Tensor


class ResponseNorm(torch.autograd.Function):
    """y = x + bias + weight * x * g / (mean over channels of g + eps), g = |x| over an image.

    x (B, L, C) with the L visible cells of an image; weight, bias (C,). ConvNeXt V2 eq. 1-3. The
    gradient of g is x / g, and 0 where g is 0. The result has the type of x; sums and everything
    per channel are float32 at least.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        norms = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)  # (B, 1, C)
        scale = torch.addcmul(torch.ones_like(weight), weight, _relative(norms, eps))
        ctx.save_for_backward(x, norms, weight, scale)
        ctx.eps = eps
        return torch.addcmul(bias, x, scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, norms, weight, scale = ctx.saved_tensors
        grad = grads[0].to(norms.dtype)
        grad_scale = (grad * x).sum(1, keepdim=True)  # (B, 1, C)
        relative = _relative(norms, ctx.eps)
        mean = norms.mean(2, keepdim=True) + ctx.eps
        grad_relative = grad_scale * weight
        shared = (grad_relative * relative).mean(2, keepdim=True)
        grad_norms = (grad_relative - shared) / mean
        per_cell = torch.where(norms > 0, grad_norms / norms, 0)
        grad_x = (grad * scale).addcmul_(x, per_cell).to(x.dtype)
        return grad_x, (grad_scale * relative).sum((0, 1)), grad.sum((0, 1)), None


def _relative(norms: Tensor, eps: float) -> Tensor:
    return norms / (norms.mean(2, keepdim=True) + eps)
