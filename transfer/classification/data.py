"""Labelled images -> batches: timm's transforms, drawn from (seed, epoch, image) alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.auto_augment import AutoAugment, RandAugment
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import Compose, InterpolationMode, TrivialAugmentWide

from pretrain.data.batches import counting_failures, outlive_signals
from pretrain.data.order import BatchShare, Order, StepSampler
from pretrain.data.reading import (
    Failure,
    FailureCount,
    UnreadableImagesError,
    read_image,
    read_or_draw,
)
from pretrain.run.seeds import seed_draws
from transfer.classification.config import Input
from transfer.datasets.class_split import ClassSplit
from transfer.weights import PixelStats

AUGMENTATION = 2**20  # in place of a process's rank in the seed of an image's draws
Transform = Callable[[object], Tensor]  # a PIL image -> (3, s, s)
Sample = tuple[Tensor, int, list[Failure]]


@dataclass
class Batch:
    """One batch on the host."""

    images: Tensor  # (B, 3, s, s) float32, normalised
    labels: Tensor  # (B,) int64
    failures: tuple[Failure, ...] = ()  # images that others were taken for

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, for asynchronous copies; DataLoader calls it."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.failures)


def train_transform(settings: Input, pixels: PixelStats) -> Transform:
    """Return timm's training transform of an image; "trivial" in AutoAugment's place, as SparK."""
    trivial = settings.auto_augment == "trivial"
    mean, std = _statistics(pixels)
    transform = create_transform(
        settings.input_size,
        is_training=True,
        scale=settings.crop_scale,
        ratio=settings.crop_ratio,
        hflip=settings.flip,
        color_jitter=settings.color_jitter or None,  # type: ignore[arg-type]
        auto_augment="v0" if trivial else settings.auto_augment or None,
        interpolation="bicubic",
        mean=mean,
        std=std,
        re_prob=settings.random_erasing,
        re_mode="pixel",
    )
    steps = transform.transforms
    for place, step in enumerate(steps):
        if isinstance(step, AutoAugment) and trivial:
            steps[place] = TrivialAugmentWide(interpolation=InterpolationMode.BICUBIC)
        elif isinstance(step, AutoAugment | RandAugment):
            allow_no_bits(step)
    return _in_order(transform, pixels)


def allow_no_bits(policy: AutoAugment | RandAugment) -> None:
    """Let timm's Posterize keep 0 bits, a black image as Pillow always gave; Pillow 13 refuses."""
    nested = [policy.ops] if isinstance(policy, RandAugment) else policy.policy
    for operation in (operation for row in nested for operation in row):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize


def posterize(image: Image.Image, bits_to_keep: int, **options: Any) -> Image.Image:
    """Keep that many bits of each channel, by timm's function but for 0."""
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return auto_augment.posterize(image, bits_to_keep, **options)


def evaluation_transform(settings: Input, pixels: PixelStats) -> Transform:
    """Return timm's transform of an image for evaluation."""
    mean, std = _statistics(pixels)
    transform = create_transform(
        settings.input_size,
        interpolation=settings.interpolation,
        crop_pct=1.0 if settings.squash else settings.crop_pct,
        crop_mode="squash" if settings.squash else "center",
        mean=mean,
        std=std,
    )
    return _in_order(transform, pixels)


def _statistics(pixels: PixelStats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation in the order of RGB."""
    step = -1 if pixels.color_order == "BGR" else 1
    return tuple(pixels.mean)[::step], tuple(pixels.std)[::step]


def _in_order(transform: Transform, pixels: PixelStats) -> Transform:
    if pixels.color_order == "RGB":
        return transform
    return Compose([transform, _flip_channels])


def _flip_channels(image: Tensor) -> Tensor:
    return image.flip(0)


class RepeatedOrder(Order):
    """Every image `repeats` times in a row, its copies on different processes; DeiT's sampler.

    An epoch has as many images as without repeats, so it sees 1 / repeats of them. Image i's copy c
    has the number i + c * images.
    """

    def __init__(
        self, images: int, batch_size: int, steps_per_epoch: int, seed: int, repeats: int
    ) -> None:
        super().__init__(images, batch_size, steps_per_epoch, seed)
        self.repeats = repeats

    def images_of(self, step: int) -> np.ndarray:
        """Return the copies of a step, all processes together, (batch_size,) int64."""
        row, copy = np.divmod(self.positions(step), self.repeats)
        return self.permutation(self.epoch(step)).take(row, mode="wrap") + copy * self.images

    def images_of_pass(self, step: int, pass_index: int, share: BatchShare) -> np.ndarray:
        """Return the copies of one process's forward pass of a step, (batch,) int64."""
        place = pass_index * share.world + share.rank
        return self.images_of(step)[place :: share.world * share.accumulation_steps]


class TrainingSamples(Dataset[Sample]):
    """(epoch, copy) -> augmented image and label; what cannot be read is replaced by another."""

    def __init__(self, split: ClassSplit, transform: Transform, seed: int) -> None:
        self.split, self.transform, self.seed = split, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, number = key
        copy, index = divmod(number, len(self.split))
        chosen, image, failures = read_or_draw(self.split.images, index, (self.seed, epoch))
        seed_draws(self.seed, epoch, index, AUGMENTATION + copy)
        return self.transform(image), int(self.split.labels[chosen]), failures

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Sample] | str:
        """Return the samples of a batch; DataLoader calls it.

        Why nothing can be read is returned, not raised: DataLoader would add a traceback to it.
        """
        try:
            return [self[key] for key in keys]
        except UnreadableImagesError as error:
            return str(error)


class EvaluationSamples(Dataset[Sample]):
    """Number -> image and label; ValueError for an image that cannot be read."""

    def __init__(self, split: ClassSplit, transform: Transform) -> None:
        self.split, self.transform = split, transform

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.split.images, index)
        return self.transform(image), int(self.split.labels[index]), []


class Stride(Sampler[list[int]]):
    """One process's share of numbers below `count`, each in one process, in batches."""

    def __init__(self, count: int, batch: int, world: int, rank: int) -> None:
        self.mine, self.batch = range(rank, count, world), batch

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.mine), self.batch):
            yield list(self.mine[start : start + self.batch])

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch)


def collate(samples: Sequence[Sample] | str) -> Batch | str:
    """Return the batch of samples."""
    if isinstance(samples, str):
        return samples
    images, labels, failures = zip(*samples, strict=True)
    found = tuple(failure for each in failures for failure in each)
    return Batch(torch.stack(images), torch.tensor(labels), found)


def training_loader(
    samples: TrainingSamples,
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
    loader = _loader(samples, sampler, workers, pin)
    return counting_failures(loader, FailureCount(len(samples.split)))


def evaluation_loader(
    samples: EvaluationSamples, batch: int, world: int, rank: int, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Return one process's share of the images to evaluate on, each once over all processes."""
    return _loader(samples, Stride(len(samples.split), batch, world, rank), workers, pin)


def _loader(samples: Dataset, sampler: Sampler, workers: int, pin: bool) -> DataLoader:
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=outlive_signals,
    )
