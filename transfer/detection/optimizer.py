"""Parameter groups with layer-wise learning rates; the learning rate as a function of the step."""

import logging
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from transfer.features.layer_decay import layer_decay_factors, rule_for

logger = logging.getLogger(__name__)

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)  # batch and instance norms
NO_DECAY = ("nothing", "norms", "norms_and_pos_embed", "vectors")


def parameter_groups(
    model: nn.Module,
    *,
    arch: str,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    rule: str = "auto",
    no_weight_decay: str = "norms",
) -> list[dict[str, Any]]:
    """Return groups of equal learning-rate factor and weight decay, with the names they hold.

    rule: one of transfer.features.layer_decay.RULES, or "auto". no_weight_decay: "nothing",
    "norms" (Detectron2's WEIGHT_DECAY_NORM = 0), "norms_and_pos_embed" (ViTDet) or "vectors"
    (everything of one dimension, as the ConvNeXt and BEiT codes have it, and position embeddings).
    ValueError for another one.
    """
    if no_weight_decay not in NO_DECAY:
        raise ValueError(f"no_weight_decay must be one of {NO_DECAY}, got {no_weight_decay!r}")
    every = [name for name, _ in model.named_parameters()]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    factors = dict.fromkeys(every, 1.0)
    if layer_decay != 1.0:
        chosen = rule_for(arch) if rule == "auto" else rule
        factors = layer_decay_factors(every, rule=chosen, decay=layer_decay)
    exempt = _exempt(model, trained, no_weight_decay)
    groups: dict[tuple[float, float], list[str]] = defaultdict(list)
    for name in trained:
        groups[factors[name], 0.0 if name in exempt else weight_decay].append(name)
    return [
        {
            "params": [trained[n] for n in members],
            "names": members,
            "lr": lr * factor,
            "base_lr": lr * factor,
            "weight_decay": decay,
        }
        for (factor, decay), members in sorted(groups.items())
    ]


def _exempt(model: nn.Module, trained: dict[str, nn.Parameter], kind: str) -> set[str]:
    if kind == "nothing":
        return set()
    if kind == "vectors":
        tokens = ("pos_embed", "cls_token")
        return {n for n, p in trained.items() if p.ndim <= 1 or n.endswith(tokens)}
    positions = {n for n in trained if kind == "norms_and_pos_embed" and n.endswith("pos_embed")}
    return positions | {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }


def lr_factor(
    step: int,
    *,
    steps: int,
    milestones: list[int],
    gamma: float,
    warmup_steps: int,
    warmup_factor: float,
) -> float:
    """Return the share of the base learning rate at `step`: linear warm-up times step decay.

    fvcore's WarmupParamScheduler interpolates from warmup_factor at step 0 to the schedule's value
    at the end of the warm-up; so does this.
    Raises ValueError for a `step` outside the schedule.
    """
    if not 0 <= step < max(steps, 1):
        raise ValueError(f"step {step} is outside the schedule of {steps} steps")
    decayed = gamma ** sum(step >= m for m in milestones)
    if step >= warmup_steps:
        return decayed
    return decayed * (warmup_factor + (1 - warmup_factor) * step / warmup_steps)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its base learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
