"""The moving average of the weights, which is evaluated instead of the trained weights."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from timm.utils import ModelEmaV3
from torch import Tensor


@HOOKS.register_module()
class AverageHook(Hook):
    """average = decay * average + (1 - decay) * weights after each optimizer step, as pretrain.run.

    Not after each forward pass of a step. Evaluations are of the average.
    """

    priority = "ABOVE_NORMAL"  # before the state is saved

    def __init__(self, decay: float, accumulation_steps: int) -> None:
        self.decay, self.accumulation_steps = decay, accumulation_steps
        self.saved: dict[str, Tensor] | None = None  # of the state that the run goes on from
        self.trained: dict[str, Tensor] = {}  # set aside while the average is evaluated

    def before_train(self, runner: Any) -> None:
        """Begin with the first weights, or with the saved average."""
        self.average = ModelEmaV3(runner.unwrapped_model, self.decay)
        if self.saved is not None:
            self.average.module.load_state_dict(self.saved)

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Update the average at the end of a step."""
        if (runner.iter + 1) % self.accumulation_steps == 0:
            self.average.update(runner.unwrapped_model)

    def before_val_epoch(self, runner: Any) -> None:
        """Put the average into the net."""
        state = runner.unwrapped_model.state_dict()
        self.trained = {name: tensor.clone() for name, tensor in state.items()}
        runner.unwrapped_model.load_state_dict(self.average.module.state_dict())

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:  # noqa: ARG002
        """Put the trained weights back."""
        runner.unwrapped_model.load_state_dict(self.trained)
        self.trained = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Store the average beside the trained weights, also while it is evaluated."""
        checkpoint["model"] = self.trained or checkpoint["model"]
        checkpoint["average"] = self.average.module.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from the stored one."""
        self.saved = checkpoint["average"]
