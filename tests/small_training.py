"""The smallest thing to train: a linear layer on random numbers.

As a program, started twice by tests/processes.py: OUT SIGNALLED_STEP RESUME; the second process
alone is asked to stop after that step.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain.run.loop import Loop
from pretrain.run.processes import launch
from pretrain.run.trainee import LoopSettings, Trainee

BATCH, WIDTH = 4, 3


class LineFit(Trainee):
    """Fit a linear layer; what befalls which step can be arranged.

    The batch of a step is shared by its passes and processes; dropout depends on the seeds.
    """

    kind = "line fit"
    advice = "lower lr"

    def __init__(self, fabric: Fabric, settings: LoopSettings, lr: float = 0.1) -> None:
        self.fabric, self.settings, self.lr = fabric, settings, lr
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.3), nn.Linear(WIDTH, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.factor: dict[int, float] = {}  # of the loss, by step
        self.rate: dict[int, float] = {}  # learning rates, by step
        self.signal_at = -1  # the step in which this process is asked to stop
        self.interim_steps: list[int] = []
        self.draws: list[float] = []  # one of each pass
        self.seen = 0  # batches since the last line of the log

    def batches(self, first: int) -> Iterator[Tensor]:
        """Yield (images, WIDTH) for each pass from step `first` on."""
        passes, world = self.settings.accumulation_steps, self.fabric.world_size
        for step in range(first, self.settings.steps):
            whole = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(step))
            for part in range(passes):
                yield whole.chunk(passes * world)[part * world + self.fabric.global_rank]

    def losses(self, model: nn.Module, batch: Tensor, step: int) -> Mapping[str, Tensor]:
        """Return the squared error, and the mean of the output."""
        self.seen += 1
        self.draws.append(float(torch.rand(())))
        if step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        output = model(batch)
        error = (output - batch.sum(1, keepdim=True)).square().mean()
        return {"loss": error * self.factor.get(step, 1.0), "output": output.mean()}

    def set_step(self, step: int) -> None:
        """Give the optimizer its learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate.get(step, self.lr)

    def images_of(self, step: int) -> Sequence[str]:
        """Return names."""
        return [f"image {step}.{i}" for i in range(BATCH)]

    def log_values(self, done: int) -> Mapping[str, float]:
        """Return the rate and what was counted."""
        seen, self.seen = self.seen, 0
        return {"lr": self.rate.get(done - 1, self.lr), "seen": seen}

    def norm_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the first layer."""
        return {"first": list(self.model[0].parameters())}  # type: ignore[index]

    def state(self) -> dict[str, Any]:
        """Return the count."""
        return {"seen": self.seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up the count."""
        self.seen = state["seen"]

    def interim(self, done: int, trained: nn.Module) -> None:  # noqa: ARG002
        """Note when it was called."""
        self.interim_steps.append(done)


def settings(**changes: Any) -> LoopSettings:
    """Return the settings of ten steps."""
    values = {"steps": 10, "seed": 5, "batch_size": BATCH, "log_steps": 3, "checkpoint_steps": 4}
    return LoopSettings(**{**values, **changes})


def main() -> None:
    """Train in this process; print how it ended."""
    out, signalled_step, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
    fabric = launch("cpu", "fp32")
    fit = LineFit(fabric, settings())
    fit.signal_at = signalled_step if fabric.global_rank == 1 else -1
    loop = Loop(fabric, fit, settings(), out, resume)
    try:
        loop.run()
    except SystemExit as stopped:
        print(f"stopped with {stopped.code} after step {loop.done}")
    weights = torch.cat([p.detach().flatten() for p in fit.model.parameters()])
    everywhere = fabric.all_gather(weights)
    assert torch.equal(everywhere[0], everywhere[1])
    print(f"trained to step {loop.done}")


if __name__ == "__main__":
    main()
