"""The learning rate of MMCV 0.x, with which the published UperNet runs were made.

MMEngine's LinearLR followed by PolyLR starts the decay at the end of the warm-up. MMCV 0.x
(mmcv/runner/hooks/lr_updater.py, policy="poly", warmup="linear") decays from the first iteration
and warms up on top of it, so that its rate is up to warmup / end lower.
"""

from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def poly_with_warmup(
    iteration: int,
    *,
    base: float,
    end: int,
    power: float = 1.0,
    min_lr: float = 0.0,
    warmup: int = 0,
    warmup_ratio: float = 1e-6,
) -> float:
    """Return the rate of an iteration, 0 <= iteration < end.

    (base - min_lr) * (1 - iteration / end) ** power + min_lr, times a factor that grows linearly
    from `warmup_ratio` to 1 over the first `warmup` iterations.
    """
    rate = (base - min_lr) * (1 - iteration / end) ** power + min_lr
    if iteration < warmup:
        rate *= 1 - (1 - iteration / warmup) * (1 - warmup_ratio)
    return rate


@PARAM_SCHEDULERS.register_module()
class WarmupPolyLR(LRSchedulerMixin, _ParamScheduler):
    """`poly_with_warmup` for every parameter group, from its own initial rate.

    Iterations are forward passes, as everywhere in MMEngine; so are `warmup` and `end`.
    """

    def __init__(self, optimizer: Any, *, end: int, **settings: Any) -> None:
        self.settings = {"end": end, **settings}
        super().__init__(optimizer, end=end, by_epoch=False)

    def _get_value(self) -> list[float]:
        return [
            poly_with_warmup(self.last_step, base=base, **self.settings)
            for base in self.base_values
        ]
