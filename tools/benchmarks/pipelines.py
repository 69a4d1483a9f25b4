"""One data process: each method's pipeline beside the papers' own, made of torchvision's parts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from pretrain.config import Recipe, load_recipe
from pretrain.data.batches import ImageSamples
from pretrain.data.masks import block_visible, fcmae_visible_count, random_visible
from pretrain.data.sources import Images
from tools.benchmarks.interleave import beside

RECIPES = ("spark_resnet50.py", "fcmae_convnextv2_tiny_800ep.py", "beit_base_in1k.py")
TOKEN_PX = 112  # BEiT's token image
IMAGES_A_ROUND = 16


def beside_torchvision(images: Images, rounds: int) -> dict[str, Any]:
    """Return images per second and their ratio by method; prints a line for each."""
    figures = {}
    for file in RECIPES:
        recipe = load_recipe(file)
        name = recipe.method.name
        ours, theirs = our_samples(images, recipe), torchvision_samples(images, recipe)
        calls = {
            "ours": partial(draw_some, ours.__getitem__),
            "torchvision": partial(draw_some, theirs),
        }
        figures[name] = beside(name, calls, IMAGES_A_ROUND, rounds, 1, torch.device("cpu"))
    return figures


def draw_some(sample: Callable[[tuple[int, int]], object]) -> None:
    """Make the samples of the first images."""
    for index in range(IMAGES_A_ROUND):
        sample((0, index))


def sizes_of(recipe: Recipe) -> tuple[int, ...]:
    """Return pixels of the crops: BEiT's second one is for its tokenizer."""
    beit = recipe.method.name == "beit"
    return (recipe.image_size, TOKEN_PX) if beit else (recipe.image_size,)


def our_samples(images: Images, recipe: Recipe) -> ImageSamples:
    """Return the samples of a recipe as its run reads them, masks and all."""
    mask: Callable[..., np.ndarray] = partial(block_visible, grid=(14, 14))
    if recipe.method.name != "beit":
        mask = partial(random_visible, grid=(7, 7), n_visible=fcmae_visible_count(49, 0.6))
    return ImageSamples(images, recipe.augmentation, sizes_of(recipe), mask, 0)


def torchvision_samples(images: Images, recipe: Recipe) -> Callable[[tuple[int, int]], object]:
    """Return the papers' pipeline from torchvision's own transforms."""
    from torchvision import transforms
    from torchvision.datasets.folder import pil_loader
    from torchvision.transforms import functional

    settings, jitter = recipe.augmentation, recipe.augmentation.color_jitter
    before = [transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []
    before.append(transforms.RandomHorizontalFlip(settings.flip))
    whole = transforms.Compose(before)
    normalise = transforms.Normalize(settings.pixel_mean, settings.pixel_std)
    kinds = (transforms.InterpolationMode.BICUBIC, transforms.InterpolationMode.LANCZOS)

    def sample(key: tuple[int, int]) -> object:
        image = whole(pil_loader(images.name(key[1])))
        box = transforms.RandomResizedCrop.get_params(
            image, list(settings.crop_scale), list(settings.crop_ratio)
        )
        crops = [
            functional.to_tensor(functional.resized_crop(image, *box, [size, size], kind))
            for size, kind in zip(sizes_of(recipe), kinds, strict=False)
        ]
        return normalise(crops[0]), crops[1:]

    return sample
