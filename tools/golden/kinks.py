"""Gradients recorded in float32 may differ by a unit that sits on a ReLU's kink.

A pre-activation within float32's rounding of 0 (or of ReLU6's 6) falls on one side in one order of
summation and on the other side in another; the loss does not notice, the gradient jumps. (SparK's
own code run in float64 misses its own float32 gradient of `spark_resnet` by 1.2e-3 for that
reason.) Taking unit u the other way adds +-(dL/dy_u) dx_u/dtheta, exactly. `explain` looks for a
choice of sides, among units that close to a kink, that gives the recorded gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ROUNDING = 1e-5  # of a layer's largest pre-activation: some units of float32 after a deep network
CANDIDATES = 64  # nearest units tried


@dataclass
class Kinks:
    """The inputs and outputs of a model's ReLUs in one forward pass."""

    calls: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)  # x, relu(x), upper

    def candidates(self) -> list[tuple[Tensor, float]]:
        """Return, per unit at a kink, its pre-activation and its other side's gradient."""
        found: list[tuple[float, Tensor, float]] = []
        for x, y, upper in self.calls:
            flat, slope = x.flatten(), y.grad.flatten() if y.grad is not None else None
            if slope is None:
                continue
            values = flat.detach()
            distance = torch.minimum(values.abs(), (values - upper).abs())
            distance = distance / values.abs().max().clamp(min=1e-30)
            near = (distance < ROUNDING) & (values != 0)  # masked cells are exactly zero
            for unit in near.nonzero().flatten().tolist():
                open_now = bool(0 < values[unit] < upper)
                found.append(
                    (float(distance[unit]), flat[unit], float(slope[unit]) * (1 - 2 * open_now))
                )
        found.sort(key=lambda candidate: candidate[0])
        return [(unit, weight) for _, unit, weight in found[:CANDIDATES]]

    def explain(self, parameter: Tensor, recorded: Tensor) -> tuple[Tensor, int]:
        """Return the gradient of `parameter` nearest to `recorded`, and its changed units."""
        own = parameter.grad
        if own is None:
            raise ValueError("no gradient to explain: run backward first")
        candidates = self.candidates()
        if not candidates:
            return own, 0
        effects = torch.stack(
            [
                weight * torch.autograd.grad(unit, parameter, retain_graph=True)[0].flatten()
                for unit, weight in candidates
            ],
            dim=1,
        )
        gap = (recorded.to(own) - own.reshape(recorded.shape)).flatten()
        sides = torch.linalg.lstsq(effects, gap[:, None]).solution[:, 0]
        taken = (sides > 0.5).to(own)
        return own + (effects @ taken).view_as(own), int(taken.sum())


@contextmanager
def watch_kinks(model: nn.Module) -> Iterator[Kinks]:
    """Record the ReLUs of `model` in the forward and backward pass inside of the block."""
    kinks = Kinks()

    def record(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if out.requires_grad:
            out.retain_grad()
            upper = 6.0 if isinstance(module, nn.ReLU6) else float("inf")
            kinks.calls.append((inputs[0], out, upper))

    relus = [m for m in model.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    in_place = [m.inplace for m in relus]
    hooks = [m.register_forward_hook(record) for m in relus]
    for module in relus:
        module.inplace = False
    try:
        yield kinks
    finally:
        for module, before, hook in zip(relus, in_place, hooks, strict=True):
            module.inplace = before
            hook.remove()
