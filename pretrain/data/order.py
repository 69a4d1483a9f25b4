"""Which images a step takes: a pure function of (seed, step), whatever the number of processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Split:
    """One process's share: in each optimizer step `accumulation` times `batch` images."""

    world: int
    rank: int
    batch: int
    accumulation: int

    @classmethod
    def of(cls, batch_size: int, largest: int, world: int = 1, rank: int = 0) -> "Split":
        """Split a step of `batch_size` images over `world` devices that take `largest` at once."""
        if batch_size % world:
            raise ValueError(
                f"batch_size={batch_size} cannot be shared by {world} devices: choose a multiple"
            )
        share = batch_size // world
        accumulation = next(
            n for n in range(1, share + 1) if share % n == 0 and share // n <= largest
        )
        return cls(world, rank, share // accumulation, accumulation)

    def __str__(self) -> str:
        total = self.world * self.batch * self.accumulation
        devices = "device" if self.world == 1 else "devices"
        text = f"{total} images a step = {self.world} {devices} x {self.batch}"
        return text + (f" x {self.accumulation} accumulated" if self.accumulation > 1 else "")


class Order:
    """Which images the steps take: every epoch a permutation drawn from (seed, epoch)."""

    def __init__(self, images: int, batch_size: int, steps_per_epoch: int, seed: int) -> None:
        self.images, self.batch_size = images, batch_size
        self.steps_per_epoch, self.seed = steps_per_epoch, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def epoch(self, step: int) -> int:
        """The epoch of optimizer step `step`, both from 0."""
        return step // self.steps_per_epoch

    def step(self, step: int) -> np.ndarray:
        """The images of a step, all processes together, (batch_size,) int64."""
        epoch = self.epoch(step)
        if epoch != self._epoch:
            draw = np.random.default_rng([self.seed, epoch])
            self._epoch, self._permutation = epoch, draw.permutation(self.images)
        start = step % self.steps_per_epoch * self.batch_size
        return self._permutation[start : start + self.batch_size]

    def part(self, step: int, micro: int, split: Split) -> np.ndarray:
        """The images of one process's forward pass `micro` of a step, (batch,) int64."""
        start = (micro * split.world + split.rank) * split.batch
        return self.step(step)[start : start + split.batch]


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, image) from optimizer step `first` to the end of the run."""

    def __init__(self, order: Order, split: Split, first: int, steps: int) -> None:
        self.order, self.split, self.first, self.steps = order, split, first, steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.steps):
            epoch = self.order.epoch(step)
            for micro in range(self.split.accumulation):
                yield [(epoch, int(i)) for i in self.order.part(step, micro, self.split)]

    def __len__(self) -> int:
        return (self.steps - self.first) * self.split.accumulation
