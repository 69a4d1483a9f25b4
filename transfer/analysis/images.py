"""Images for an analysis: spread over a folder, cut to squares, the same for all encoders."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pretrain.data.augment import center_square
from pretrain.data.batches import to_tensor
from pretrain.data.reading import read_image
from pretrain.data.sources import open_images
from pretrain.run.sheet import spread
from transfer.weights import PixelStats


def read_squares(data: Path, count: int, size: int) -> Tensor:
    """Return the central squares of up to `count` images of a folder, (n, 3, size, size) uint8.

    Raises FileNotFoundError for no folder, ValueError for no images or one that cannot be read.
    """
    images = open_images(data)
    numbers = spread(len(images), count)
    squares = [center_square(read_image(images, number), (size,))[0] for number in numbers]
    return torch.stack([to_tensor(square) for square in squares])


def normalised(images: Tensor, pixels: PixelStats) -> Tensor:
    """Return (n, 3, H, W) uint8 as an encoder with `pixels` was given it."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (pixels.mean, pixels.std))
    ordered = images.flip(1) if pixels.color_order == "BGR" else images
    return (ordered / 255 - mean) / std


def batches(images: Tensor, pixels: PixelStats, batch: int) -> Iterator[Tensor]:
    """Yield `images` normalised, `batch` at a time."""
    for part in images.split(batch):
        yield normalised(part, pixels)
