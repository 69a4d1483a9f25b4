"""What is done to an image before it is masked: colour jitter, flip, random resized crop.

Every draw comes from the sample's own generator, so it depends on (seed, epoch, image) alone.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance

from pretrain.config import Augmentation

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def augment(
    rng: np.random.Generator, image: Image.Image, settings: Augmentation, sizes: tuple[int, ...]
) -> list[Image.Image]:
    """Crop `image` (RGB) at random; return the crop as squares of each of `sizes` pixels.

    The first is resized bicubic, the others (BEiT's token images) with Lanczos, from the same box
    (unilm `beit/transforms.py`).
    """
    if settings.color_jitter:
        image = jitter_colors(rng, image, settings.color_jitter)
    flip = rng.random() < settings.flip
    crop = image.crop(random_box(rng, image.size, settings.crop_scale, settings.crop_ratio))
    if flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kinds = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    return [crop.resize((size, size), kinds[i > 0]) for i, size in enumerate(sizes)]


def random_box(
    rng: np.random.Generator,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Draw a box with a share `scale` of an image's area and a log-uniform aspect ratio.

    As torchvision's RandomResizedCrop: ten tries, then the largest central box of an allowed ratio.
    `size` is the image's (width, height) in pixels.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w + 1))
            top = int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jitter_colors(rng: np.random.Generator, image: Image.Image, strength: float) -> Image.Image:
    """Scale brightness, contrast and saturation by factors in 1 +- strength, in random order.

    This is torchvision's ColorJitter, which BEiT applies to the whole image before the crop.
    """
    factors = rng.uniform(1 - strength, 1 + strength, size=3)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for i in rng.permutation(3):
        image = kinds[i](image).enhance(float(factors[i]))
    return image


def center_square(image: Image.Image, sizes: tuple[int, ...]) -> list[Image.Image]:
    """Return the central square of `image`, resized as in `augment`: for pictures, not random."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    kinds = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    return [crop.resize((size, size), kinds[i > 0]) for i, size in enumerate(sizes)]
