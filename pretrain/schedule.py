"""Learning rate and weight decay as functions of the optimizer step, and how many steps there are.

    step < warm-up:   lr = peak (start + (1 - start) step / W)
    after:            lr = peak (final + (1 - final) (1 + cos(pi (step - warm-up) / C)) / 2)

The three codes differ in W and C by one step: `curve` in the recipe.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from timm.optim import Lamb
from torch import nn

from pretrain.config import Optimizer, Recipe, Schedule


@dataclass(frozen=True)
class RunLength:
    """The lengths of a run in optimizer steps."""

    steps: int
    warmup_steps: int
    steps_per_epoch: int


def run_length(recipe: Recipe, images: int) -> RunLength:
    """Return the lengths of a run on a data set of `images`; raises as `schedule_length`."""
    return schedule_length(recipe.schedule, recipe.batch_size, images)


def schedule_length(schedule: Schedule, batch_size: int, images: int) -> RunLength:
    """Return the lengths of a schedule on `images`, `batch_size` of them a step.

    Raises ValueError if the images do not fill a step, or the warm-up fills the run.
    """
    if images < batch_size:
        raise ValueError(
            f"{images} images do not fill one step of {batch_size}: lower the batch size"
        )
    per_epoch, rest = divmod(images, batch_size)
    if schedule.last_step == "fill" and rest:
        per_epoch += 1
    steps = schedule.steps or max(1, round(schedule.epochs * per_epoch))
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round(schedule.warmup_epochs * per_epoch)
    if warmup >= steps:
        raise ValueError(
            f"the warm-up takes {warmup} steps of a run of {steps} ({per_epoch} an epoch): "
            "lower warmup_epochs or warmup_steps, or train longer"
        )
    return RunLength(steps, warmup, per_epoch)


def learning_rate(schedule: Schedule, peak: float, length: RunLength, step: int) -> float:
    """Return the learning rate of optimizer step `step`, from 0."""
    if step < length.warmup_steps:
        # unilm `beit/utils.py` (linspace) reaches the peak on the last step of the warm-up
        ramp = max(1, length.warmup_steps - (schedule.curve == "beit"))
        start = schedule.warmup_start
        return peak * (start + (1 - start) * step / ramp)
    # SparK `lr_control.py` ends on the last step, the others would one step later
    decaying = max(1, length.steps - length.warmup_steps - (schedule.curve == "spark"))
    share = _cosine((step - length.warmup_steps) / decaying)
    return peak * (schedule.final + (1 - schedule.final) * share)


def weight_decay(optimizer: Optimizer, length: RunLength, step: int, curve: str = "spark") -> float:
    """Return the weight decay of `step`: constant, or a cosine over all steps.

    SparK's ends on the last step, BEiT's one step later (unilm `beit/utils.py`); `curve` as in
    Schedule.
    """
    end = optimizer.weight_decay_end
    if end is None:
        return optimizer.weight_decay
    share = _cosine(step / max(1, length.steps - (curve == "spark")))
    return end + (optimizer.weight_decay - end) * share


def _cosine(progress: float) -> float:
    """Return 1 at progress 0, 0 at progress 1, on a half cosine between."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def is_decayed(name: str, parameter: torch.Tensor, settings: Optimizer) -> bool:
    """Return whether a parameter is decayed: SparK `main.py`, FCMAE's (timm 0.3.2), BEiT's."""
    if any(part in name for part in settings.always_decay):
        return True
    if parameter.ndim <= 1 or name.endswith(".bias"):
        return False
    return not any(part in name for part in settings.never_decay)


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], settings: Optimizer
) -> list[dict[str, object]]:
    """Return two groups, decayed and not, each with its parameters in the model's order."""
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
    """Return LAMB (clips by itself, as SparK's does) or AdamW (clip with `clip_outside`)."""
    groups = parameter_groups(named, settings)
    if settings.optimizer == "lamb":
        return Lamb(
            groups, lr=lr, betas=settings.betas, eps=settings.eps, max_grad_norm=settings.clip_norm
        )
    return torch.optim.AdamW(groups, lr=lr, betas=settings.betas, eps=settings.eps)


def clip_outside(settings: Optimizer) -> float | None:
    """Return the norm that the loop has to clip gradients to; LAMB clips inside."""
    return None if settings.optimizer == "lamb" else settings.clip_norm


def set_step(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Put the values of this step in every group; groups without decay keep 0."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["decayed"]:
            group["weight_decay"] = weight_decay
