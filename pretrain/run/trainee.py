"""What a trainer gives to the loop: what is trained, and how long."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoopSettings:
    """How a run is carried out; steps are optimizer steps."""

    steps: int
    seed: int
    batch_size: int  # images per step, over all processes
    accumulation_steps: int = 1  # forward and backward passes per step
    clip_norm: float | None = None  # largest norm of all gradients together; None: not clipped
    ema_decay: float | None = None  # average = decay * average + (1 - decay) * weights, each step
    compile: bool = False
    log_steps: int = 10
    checkpoint_steps: int = 500
    interim_steps: int | None = None  # between interim results; None: none
    keep_states: int = 1  # the last training states that are kept


class Trainee(ABC):
    """What is trained. A trainer sets the attributes and defines what is abstract."""

    kind: str  # of its training state: no other trainer resumes from it
    model: nn.Module
    optimizer: torch.optim.Optimizer
    advice = "try a lower learning rate"  # where a loss is not finite

    @abstractmethod
    def batches(self, first: int) -> Iterator[Any]:
        """Yield this process's batches from step `first` on, `accumulation_steps` for each step."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Return scalars of one batch: "loss", which is differentiated, and others for the log.

        `model` is `self.model` as Fabric wrapped it: call it, not `self.model`. A loss that cannot
        be computed is NaN times a parameter, so that all processes meet in the backward pass and
        end together; an exception of one would leave the others waiting.
        """

    @abstractmethod
    def set_step(self, step: int) -> None:
        """Give the optimizer the learning rate of `step`, from 0."""

    @abstractmethod
    def images_of(self, step: int) -> Sequence[str]:
        """Return the names of the images of a step, over all processes."""

    def announce(self) -> None:  # noqa: B027
        """Say what is about to be trained."""

    def log_values(self, done: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return what a line of the log says beside the means since the last line."""
        return {}

    def norm_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the groups of parameters whose gradient norm is logged, by name."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs besides model, optimizer and average."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take up what `state` returned. Raises ValueError where it is another run's."""

    def after_save(self, done: int) -> None:  # noqa: B027
        """Write what belongs beside the training state; called on the first process."""

    def interim(self, done: int, trained: nn.Module) -> None:  # noqa: B027
        """Make an interim result of `trained`, the average where one is kept; on all processes.

        The line of the log for this step is written after it.
        """
