"""Images -> batches with their masks, a pure function of (seed, step).

    step -> epoch, its permutation, the step's images    order(), no state to save
    (epoch, image) -> generator -> crop, flip, mask       ImageSamples, in any worker process
    -> Batch of uint8 crops (B, 3, H, W) and masks (B, 1, h, w), pinned

A resumed run asks for the next step and reads nothing twice; two processes take the two halves of
what one process takes.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.augment import augment
from pretrain.config import Augmentation
from pretrain.schedule import Plan
from pretrain.sources import Images, read_image

DrawMask = Callable[[np.random.Generator], np.ndarray]  # -> visible (h, w) bool


@dataclass
class Batch:
    """`token_images` only where the method reads tokens (BEiT)."""

    images: Tensor  # (B, 3, H, W) uint8 RGB
    visible: Tensor  # (B, 1, h, w) bool, True = the encoder sees the patch
    token_images: Tensor | None  # (B, 3, H', W') uint8 RGB

    def pin_memory(self) -> "Batch":
        """Pinned for a copy to the device that does not wait; DataLoader calls it."""
        tokens = self.token_images
        return Batch(
            self.images.pin_memory(),
            self.visible.pin_memory(),
            None if tokens is None else tokens.pin_memory(),
        )

    def inputs(
        self, device: torch.device, settings: Augmentation
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """What the method's `forward` takes: normalised images, visible, token images in [0, 1]."""
        images = normalise(self.images.to(device, non_blocking=True), settings)
        visible = self.visible.to(device, non_blocking=True)
        if self.token_images is None:
            return images, visible
        return images, visible, self.token_images.to(device, non_blocking=True).float() / 255


def normalise(images: Tensor, settings: Augmentation) -> Tensor:
    """(B, 3, H, W) uint8 -> float32, (x / 255 - mean) / std."""
    mean = torch.tensor(settings.pixel_mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(settings.pixel_std, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def unnormalise(images: Tensor, settings: Augmentation) -> Tensor:
    """The inverse of `normalise`, in [0, 1] and clamped to it."""
    mean = torch.tensor(settings.pixel_mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(settings.pixel_std, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


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


class ImageSamples(Dataset[tuple[Tensor, ...]]):
    """(epoch, image) -> its crops, uint8 (3, s, s) for each of `sizes`, and its mask (1, h, w)."""

    def __init__(
        self,
        images: Images,
        settings: Augmentation,
        sizes: tuple[int, ...],
        draw_mask: DrawMask,
        seed: int,
    ) -> None:
        self.images, self.settings, self.sizes = images, settings, sizes
        self.draw_mask, self.seed = draw_mask, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = key
        # the third number keeps these draws apart from the epochs' permutations
        rng = np.random.default_rng([self.seed, epoch, 1 + index])
        crops = augment(rng, read_image(self.images, index), self.settings, self.sizes)
        visible = torch.from_numpy(self.draw_mask(rng))[None]
        return (*(to_tensor(crop) for crop in crops), visible)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image -> (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def collate(samples: list[tuple[Tensor, ...]]) -> Batch:
    """Samples of (image, [token image], visible) -> a batch."""
    columns = [torch.stack(column) for column in zip(*samples, strict=True)]
    return Batch(columns[0], columns[-1], columns[1] if len(columns) == 3 else None)


def loader(
    samples: ImageSamples, order: Order, split: Split, length: Plan, first: int, workers: int,
    pin: bool,
) -> Iterator[Batch]:  # fmt: skip
    """One process's batches from optimizer step `first` on, read ahead by `workers` processes."""
    sampler = StepSampler(order, split, first, length.steps)
    return iter(
        DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            worker_init_fn=outlive_signals,
        )
    )


def outlive_signals(_worker: int) -> None:
    """Let a data process survive what asks the whole process group to end: the run saves first.

    It ends with its main process: when that one sends SIGTERM, as multiprocessing does at exit, or
    is gone, which torch's loop notices within seconds. On macOS, which does not tell who sent a
    signal, any SIGTERM ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    if main is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # to be waited for instead
        threading.Thread(target=_end_when_asked_by, args=(main.pid,), daemon=True).start()


def _end_when_asked_by(process: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != process:
        pass
    os._exit(0)  # as torch's own handler: with another status the main process reports a failure


def seed_draws(seed: int, step: int, micro: int, rank: int) -> None:
    """Key torch's generators, which stochastic depth draws from, by the forward pass."""
    sequence = np.random.SeedSequence([seed, step, micro, rank])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
