"""Images -> batches with their masks, a pure function of (seed, step).

    step -> epoch, its permutation, the step's images    order(), no state to save
    (epoch, image) -> generator -> crop, flip, mask       ImageSamples, in any worker process
    -> Batch of uint8 crops (B, 3, H, W) and masks (B, 1, h, w), pinned

A resumed run asks for the next step and reads nothing twice; two processes take the two halves of
what one process takes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrain.config import Augmentation
from pretrain.data.augment import augment
from pretrain.data.order import BatchShare, Order, StepSampler
from pretrain.data.reading import (
    Failure,
    FailureCount,
    UnreadableImagesError,
    read_or_replace,
)
from pretrain.data.sources import Images
from pretrain.run.stop import outlive_signals

Sample = tuple[tuple[Tensor, ...], list[Failure]]
DrawMask = Callable[[np.random.Generator], np.ndarray]  # -> visible (h, w) bool


@dataclass
class Batch:
    """One batch on the host; `token_images` only if the method reads tokens (BEiT)."""

    images: Tensor  # (B, 3, H, W) uint8 RGB
    visible: Tensor  # (B, 1, h, w) bool, True = the encoder sees the patch
    token_images: Tensor | None  # (B, 3, H', W') uint8 RGB
    failures: tuple[Failure, ...] = ()  # images that others were taken for

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, for asynchronous copies; DataLoader calls it."""
        tokens = self.token_images
        return Batch(
            self.images.pin_memory(),
            self.visible.pin_memory(),
            None if tokens is None else tokens.pin_memory(),
            self.failures,
        )

    def inputs(
        self, device: torch.device, settings: Augmentation
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Return the arguments of the method's `forward`, on `device`.

        They are the normalised images, the visible patches, and token images in [0, 1] if there are
        any.
        """
        images = normalise(self.images.to(device, non_blocking=True), settings)
        visible = self.visible.to(device, non_blocking=True)
        if self.token_images is None:
            return images, visible
        return images, visible, self.token_images.to(device, non_blocking=True).float() / 255


def normalise(images: Tensor, settings: Augmentation) -> Tensor:
    """Convert (B, 3, H, W) uint8 to float32, as (x / 255 - mean) / std."""
    mean, std = _pixel_statistics(settings, images.device)
    return (images.float() / 255 - mean) / std


def unnormalise(images: Tensor, settings: Augmentation) -> Tensor:
    """Invert `normalise`; return images clamped to [0, 1]."""
    mean, std = _pixel_statistics(settings, images.device)
    return (images * std + mean).clamp(0, 1)


def _pixel_statistics(settings: Augmentation, device: torch.device) -> Tensor:
    """Return mean and standard deviation, (2, 3, 1, 1) on `device`, without waiting for it."""
    both = torch.tensor((settings.pixel_mean, settings.pixel_std))
    return both[..., None, None].to(device, non_blocking=True)


class ImageSamples(Dataset[tuple[Tensor, ...]]):
    """(epoch, image) -> its crops, uint8 (3, s, s) for each of `sizes`, and its mask (1, h, w).

    An image that cannot be read is replaced by one drawn from (seed, epoch, image).
    """

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
        return self._sample(key)[0]

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Sample] | str:
        """Return the samples of a batch with what could not be read; DataLoader calls it.

        Why nothing can be read is returned, not raised: DataLoader would add a traceback to it.
        """
        try:
            return [self._sample(key) for key in keys]
        except UnreadableImagesError as error:
            return str(error)

    def _sample(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        # the third number keeps these draws apart from the epochs' permutations
        rng = np.random.default_rng([self.seed, epoch, 1 + index])
        image, failures = read_or_replace(self.images, index, (self.seed, epoch))
        crops = augment(rng, image, self.settings, self.sizes)
        visible = torch.from_numpy(self.draw_mask(rng))[None]
        return (*(to_tensor(crop) for crop in crops), visible), failures


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB image to (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def collate(samples: list[Sample] | str) -> Batch | str:
    """Return the batch of samples of (image, [token image], visible) and failures."""
    if isinstance(samples, str):
        return samples
    columns = [torch.stack(column) for column in zip(*(s for s, _ in samples), strict=True)]
    failures = tuple(failure for _, found in samples for failure in found)
    return Batch(columns[0], columns[-1], columns[1] if len(columns) == 3 else None, failures)


def loader(
    samples: ImageSamples,
    order: Order,
    share: BatchShare,
    steps: int,
    first: int,
    workers: int,
    pin: bool,
) -> Iterator[Batch]:
    """Return one process's batches from optimizer step `first` on, read ahead by `workers`.

    Raises UnreadableImagesError at a batch where too many images have turned out unreadable.
    """
    sampler = StepSampler(order, share, first, steps)
    batches = iter(
        DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            worker_init_fn=outlive_signals,
        )
    )
    return counting_failures(batches, FailureCount(len(samples.images)))


def counting_failures(batches: Iterable[Any], count: FailureCount) -> Iterator[Any]:
    """Yield batches and count their `failures`.

    Raises UnreadableImagesError where a batch is the reason why nothing can be read, or too many
    images failed.
    """
    for batch in batches:
        if isinstance(batch, str):
            raise UnreadableImagesError(batch)
        count.add(batch.failures)
        yield batch
