"""Parameter groups with layer-wise learning rates, and the optimizer over them."""

from collections import defaultdict
from typing import Any

import torch
from timm.optim import Lamb
from torch import nn

from transfer.classification.config import Optimizer
from transfer.features.layer_decay import layer_decay_factors, rule_for

NEVER_DECAYED = ("pos_embed", "cls_token")  # beside what has one dimension
NO_CLIPPING = 1e7  # of LAMB's gradients; SparK downstream_imagenet/util.py


def parameter_groups(
    model: nn.Module, settings: Optimizer, lr: float, arch: str
) -> list[dict[str, Any]]:
    """Return groups of equal factor of the learning rate and weight decay, with their names.

    Raises ValueError for a rule that does not know a parameter.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factors = dict.fromkeys(trained, 1.0)
    if settings.layer_decay != 1:
        rule = settings.layer_decay_rule
        rule = rule_for(arch) if rule == "auto" else rule
        factors = layer_decay_factors(trained, rule=rule, decay=settings.layer_decay)
    groups: dict[tuple[float, float], list[str]] = defaultdict(list)
    for name, parameter in trained.items():
        groups[factors[name], settings.weight_decay * is_decayed(name, parameter)].append(name)
    return [
        {
            "params": [trained[name] for name in names],
            "names": names,
            "factor": factor,
            "lr": lr * factor,
            "weight_decay": decay,
        }
        for (factor, decay), names in sorted(groups.items())
    ]


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter is decayed: all five codes agree."""
    return parameter.ndim > 1 and not name.endswith(NEVER_DECAYED)


def build_optimizer(
    model: nn.Module, settings: Optimizer, lr: float, arch: str
) -> torch.optim.Optimizer:
    """Return AdamW, or LAMB as SparK fine-tunes with it."""
    groups = parameter_groups(model, settings, lr, arch)
    if settings.optimizer == "lamb":
        return Lamb(
            groups,
            lr=lr,
            betas=settings.betas,
            eps=settings.eps,
            bias_correction=False,
            max_grad_norm=NO_CLIPPING,
            always_adapt=True,
        )
    return torch.optim.AdamW(groups, lr=lr, betas=settings.betas, eps=settings.eps)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
