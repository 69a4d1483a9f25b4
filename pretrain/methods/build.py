"""A recipe -> its method: the module, what it reads, how its masks are drawn."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from pretrain.config import BeitSettings, FcmaeSettings, Recipe, SparkSettings
from pretrain.data.batches import DrawMask
from pretrain.data.masks import beit_masked_count, block_visible, random_visible
from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.sparse.masked import Sparse
from pretrain.tokenizer.vae import read_tokenizer

logger = logging.getLogger(__name__)


def encoder_settings(recipe: Recipe) -> dict[str, Any]:
    """Return what every method asks of its encoder."""
    return {
        "arch": recipe.arch,
        "arch_args": recipe.arch_args,
        "image_size": recipe.image_size,
        "drop_path_rate": recipe.drop_path_rate,
    }


def uses_cuda(device: str) -> bool:
    """Return whether a run with the recipe's `device` ("auto", "cpu", "cuda") is on a GPU."""
    return device != "cpu" and torch.cuda.is_available()


def sparse_path(setting: str, device: str) -> Sparse:
    """Return how masked convolutions are computed for `setting` and the recipe's `device`.

    Both ways give the same numbers; "auto" is the one that was measured to be quicker.
    """
    if setting != "auto":
        return cast("Sparse", setting)
    if not uses_cuda(device):
        return "patches"
    logger.info(
        "sparse=auto: dense on CUDA, where visible patches have not been measured to be quicker "
        "(tools/benchmark.py pretrain --device cuda; --sparse patches)"
    )
    return "dense"


def build_spark(recipe: Recipe, _tokenizer: Path | None) -> SparK:
    """Build SparK from a recipe; it has no tokenizer."""
    assert isinstance(recipe.method, SparkSettings)
    settings = recipe.method
    return SparK(
        **encoder_settings(recipe),
        mask_ratio=settings.mask_ratio,
        decoder_width=settings.decoder_width,
        densify_norm=None if settings.densify_norm == "auto" else settings.densify_norm,
        sparse=sparse_path(settings.sparse, recipe.run.device),
    )


def build_fcmae(recipe: Recipe, _tokenizer: Path | None) -> FCMAE:
    """Build FCMAE from a recipe; it has no tokenizer."""
    assert isinstance(recipe.method, FcmaeSettings)
    settings = recipe.method
    return FCMAE(
        **encoder_settings(recipe),
        mask_ratio=settings.mask_ratio,
        decoder_width=settings.decoder_width,
        decoder_depth=settings.decoder_depth,
        init=settings.weight_init,
        sparse=sparse_path(settings.sparse, recipe.run.device),
    )


def build_beit(recipe: Recipe, tokenizer: Path | None) -> BEiT:
    """Build BEiT from a recipe and the tokenizer's file.

    Raises ValueError if there is no tokenizer.
    """
    if tokenizer is None:
        raise ValueError("BEiT needs a tokenizer: give its file with --tokenizer")
    assert isinstance(recipe.method, BeitSettings)
    method = BEiT(
        **encoder_settings(recipe),
        tokenizer=read_tokenizer(tokenizer),
        pixel_mean=recipe.augmentation.pixel_mean,
        pixel_std=recipe.augmentation.pixel_std,
    )
    patches = method.grid[0] * method.grid[1]
    method.most_masked = beit_masked_count(patches, recipe.method.masked_patches)
    return method


Method = SparK | FCMAE | BEiT


METHODS: dict[str, Callable[[Recipe, Path | None], Method]] = {
    "spark": build_spark,
    "fcmae": build_fcmae,
    "beit": build_beit,
}


def build_method(recipe: Recipe, tokenizer: Path | None = None) -> Method:
    """Return the module of the recipe, its weights channels last for a GPU.

    Raises ValueError if architecture, sizes or tokenizer do not fit.
    """
    method = METHODS[recipe.method.name](recipe, tokenizer)
    if uses_cuda(recipe.run.device):
        method.to(memory_format=torch.channels_last)
    return method


def mask_drawer(recipe: Recipe, method: Method) -> DrawMask:
    """Return what draws the mask of one sample from its generator -> visible (h, w) bool."""
    settings = recipe.method
    if not isinstance(method, BEiT) or not isinstance(settings, BeitSettings):
        assert not isinstance(method, BEiT)
        return partial(random_visible, grid=method.grid, n_visible=method.n_visible)
    patches = method.grid[0] * method.grid[1]
    return partial(
        block_visible,
        grid=method.grid,
        total=method.most_masked,
        minimum=beit_masked_count(patches, settings.smallest_block),
    )


def crop_sizes(recipe: Recipe, method: Method) -> tuple[int, ...]:
    """Pixels along a side of the crops of one sample: the image, and BEiT's token image."""
    if isinstance(method, BEiT):
        return recipe.image_size, method.token_image_size
    return (recipe.image_size,)
