"""How far gradients in bfloat16 are from those in float32, by parameter group."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class GradientError:
    """Of one parameter group: |rounded - exact| / |exact|, and the cosine between both."""

    relative: float
    cosine: float


def gradient_errors(
    model: nn.Module, loss: Callable[[], Tensor], device: torch.device
) -> dict[str, GradientError]:
    """Return the error of each group for a `loss` of `model` that draws nothing at random.

    The mask tokens are groups of their own; the rest is grouped by top-level module. BatchNorm's
    running statistics move.
    """
    rounded, exact = (_gradients(model, loss, device, autocast) for autocast in (True, False))
    groups: dict[str, list[str]] = {}
    for name in exact:
        group = name if name.startswith("mask_token") else name.split(".")[0]
        groups.setdefault(group, []).append(name)
    return {
        group: _error(*(torch.cat([side[name] for name in names]) for side in (rounded, exact)))
        for group, names in groups.items()
    }


def _gradients(
    model: nn.Module, loss: Callable[[], Tensor], device: torch.device, autocast: bool
) -> dict[str, Tensor]:
    """Return {parameter's name: its gradient, flattened, float64}; float32 without TF32."""
    model.zero_grad()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with (
        torch.backends.cudnn.flags(allow_tf32=False),
        torch.autocast(device.type, torch.bfloat16, enabled=autocast),
    ):
        value = loss()
        with torch.autocast(device.type, enabled=False):
            value.backward()
    torch.set_float32_matmul_precision(before)
    return {n: p.grad.flatten().double() for n, p in model.named_parameters() if p.grad is not None}


def _error(rounded: Tensor, exact: Tensor) -> GradientError:
    relative = (rounded - exact).norm() / exact.norm()
    return GradientError(float(relative), float(F.cosine_similarity(rounded, exact, dim=0)))
