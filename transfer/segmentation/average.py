"""The moving average of the weights, which is evaluated instead of the trained weights."""

from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from mmengine.registry import HOOKS, MODELS
from torch import nn


@MODELS.register_module()
class WarmedUpAverage(BaseAveragedModel):
    """average <- d average + (1 - d) weights after each update, d = min(decay, (1 + t) / (10 + t)).

    t counts the updates from 0, so that the initial weights are soon forgotten; the same formula as
    in detection. Buffers of floats are averaged as well, those of integers copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, update_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        done = int(self.steps)
        decay = min(self.decay, (1 + done) / (10 + done))
        for name, value in model.state_dict().items():
            average = self.avg_parameters[name]
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
        self.steps += 1

    def avg_func(self, averaged_param: Any, source_param: Any, steps: Any) -> None:
        """Never called: `update_parameters` does all of it."""
        raise NotImplementedError


@HOOKS.register_module()
class AverageHook(EMAHook):
    """MMEngine's EMAHook, once per optimizer step: not after each of its forward passes."""

    priority = 49  # before the state is saved

    def __init__(self, decay: float, accumulation_steps: int) -> None:
        super().__init__(ema_type="WarmedUpAverage", strict_load=True, decay=decay)
        self.accumulation_steps = accumulation_steps

    def before_train(self, runner: Any) -> None:  # noqa: ARG002
        """Begin with the first weights, which are drawn after MMEngine makes the copy."""
        if not int(self.ema_model.steps):
            self.ema_model.module.load_state_dict(self.src_model.state_dict())

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Update the average at the end of a step."""
        if (runner.iter + 1) % self.accumulation_steps == 0:
            super().after_train_iter(runner, *args, **kwargs)
