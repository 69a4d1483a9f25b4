"""Parameter groups and optimizers: what is decayed, LAMB for SparK, AdamW for the others."""

from collections.abc import Iterable

import torch
from timm.optim import Lamb
from torch import nn

from pretrain.config import Optimizer


def is_decayed(name: str, parameter: torch.Tensor, settings: Optimizer) -> bool:
    """Whether the parameter is decayed: SparK `main.py`, timm 0.3.2's rule in FCMAE, BEiT's."""
    if any(part in name for part in settings.decay):
        return True
    if parameter.ndim <= 1 or name.endswith(".bias"):
        return False
    return not any(part in name for part in settings.no_decay)


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], settings: Optimizer
) -> list[dict[str, object]]:
    """Two groups, decayed and not, each with its parameters in the model's order."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (decayed if is_decayed(name, parameter, settings) else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay, "decayed": True},
        {"params": kept, "weight_decay": 0.0, "decayed": False},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], settings: Optimizer, lr: float
) -> torch.optim.Optimizer:
    """LAMB (clips by itself, as SparK's does) or AdamW (clip with `clip_outside`)."""
    groups = parameter_groups(named, settings)
    if settings.optimizer == "lamb":
        return Lamb(
            groups, lr=lr, betas=settings.betas, eps=settings.eps, max_grad_norm=settings.clip_norm
        )
    return torch.optim.AdamW(groups, lr=lr, betas=settings.betas, eps=settings.eps)


def clip_outside(settings: Optimizer) -> float | None:
    """The norm that the loop has to clip gradients to; LAMB clips inside."""
    return None if settings.optimizer == "lamb" else settings.clip_norm


def set_step(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Put the values of this step in every group; groups without decay keep 0."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["decayed"]:
            group["weight_decay"] = weight_decay
