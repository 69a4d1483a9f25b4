"""Which images belong to a step: a pure function of (seed, step), for any number of processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class BatchShare:
    """One process's share: in each optimizer step `accumulation_steps` times `batch` images."""

    world: int
    rank: int
    batch: int
    accumulation_steps: int

    @classmethod
    def of(cls, batch_size: int, largest: int, world: int = 1, rank: int = 0) -> "BatchShare":
        """Divide a step of `batch_size` images among `world` devices, `largest` at once on each.

        Raises ValueError if `batch_size` is not a multiple of `world`.
        """
        if batch_size % world:
            raise ValueError(
                f"batch_size={batch_size} cannot be shared by {world} devices: choose a multiple"
            )
        share = batch_size // world
        accumulation_steps = next(
            n for n in range(1, share + 1) if share % n == 0 and share // n <= largest
        )
        return cls(world, rank, share // accumulation_steps, accumulation_steps)

    def __str__(self) -> str:
        passes = self.accumulation_steps
        total = self.world * self.batch * passes
        devices = "device" if self.world == 1 else "devices"
        text = f"{total} images per step = {self.world} {devices} x {self.batch}"
        return text + (f" x {passes} accumulated" if passes > 1 else "")


class Order:
    """Which images the steps take: every epoch a permutation drawn from (seed, epoch).

    Where `steps_per_epoch` steps need more images than there are, the last one is filled up with
    the first of the permutation, as SparK's `sampler.py` does.
    """

    def __init__(self, images: int, batch_size: int, steps_per_epoch: int, seed: int) -> None:
        self.images, self.batch_size = images, batch_size
        self.steps_per_epoch, self.seed = steps_per_epoch, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def epoch(self, step: int) -> int:
        """Return the epoch of optimizer step `step`, both from 0."""
        return step // self.steps_per_epoch

    def images_of(self, step: int) -> np.ndarray:
        """Return the images of a step, all processes together, (batch_size,) int64."""
        return self.permutation(self.epoch(step)).take(self.positions(step), mode="wrap")

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the order of all images in an epoch, (images,) int64."""
        if epoch != self._epoch:
            draw = np.random.default_rng([self.seed, epoch])
            self._epoch, self._permutation = epoch, draw.permutation(self.images)
        return self._permutation

    def positions(self, step: int) -> np.ndarray:
        """Return the places of a step's images in its epoch, (batch_size,) int64."""
        start = step % self.steps_per_epoch * self.batch_size
        return np.arange(start, start + self.batch_size)

    def images_of_pass(self, step: int, pass_index: int, share: BatchShare) -> np.ndarray:
        """Return the images of one process's forward pass of a step, (batch,) int64."""
        start = (pass_index * share.world + share.rank) * share.batch
        return self.images_of(step)[start : start + share.batch]


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, image) from optimizer step `first` to the end of the run."""

    def __init__(self, order: Order, share: BatchShare, first: int, steps: int) -> None:
        self.order, self.share, self.first, self.steps = order, share, first, steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.steps):
            epoch = self.order.epoch(step)
            for pass_index in range(self.share.accumulation_steps):
                images = self.order.images_of_pass(step, pass_index, self.share)
                yield [(epoch, int(i)) for i in images]

    def __len__(self) -> int:
        return (self.steps - self.first) * self.share.accumulation_steps
