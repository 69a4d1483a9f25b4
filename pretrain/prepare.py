"""What a pretraining run needs before its first step: first weights, a tokenizer, a word on itself.

What is cheap to refuse comes before the images are read: they may be millions.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pretrain.config import BeitSettings, Recipe
from pretrain.config.explain import lr_rule
from pretrain.data.order import BatchShare
from pretrain.data.sources import Images
from pretrain.files.encoder_file import read_encoder
from pretrain.files.training_state import read_state
from pretrain.methods import Method, build_method
from pretrain.methods.beit import BEiT
from pretrain.run.batch_norm import has_batch_norm
from pretrain.schedule import RunLength
from pretrain.tokenizer.training import train_tokenizer

logger = logging.getLogger(__name__)

KIND = "pretraining"  # of the training state


def method_before_images(recipe: Recipe, init: Path | None) -> Method | None:
    """Return the recipe's method with its first weights, or None if it needs a tokenizer first.

    Raises ValueError or FileNotFoundError for whatever does not fit, in that case too.
    """
    if not isinstance(recipe.method, BeitSettings):
        return new_method(recipe, None, init)
    if recipe.method.tokenizer:
        return new_method(recipe, Path(recipe.method.tokenizer), init)
    beit_without_weights(recipe)
    if init is not None and not init.is_file():
        raise FileNotFoundError(f"no weights at {init}")
    return None


def new_method(recipe: Recipe, tokenizer: Path | None, init: Path | None) -> Method:
    """Return the recipe's method with weights drawn from the seed, or those of the file `init`."""
    torch.manual_seed(recipe.seed)
    method = build_method(recipe, tokenizer)
    if init is not None:
        load_initial_weights(method, init)
    return method


def load_initial_weights(method: Method, path: Path) -> None:
    """Load weights, and nothing else, from an encoder file or a training state.

    Raises ValueError if they do not fit, FileNotFoundError if there is no such file.
    """
    if path.suffix == ".safetensors":
        tensors, identity = read_encoder(path)
        target: Any = method.encoder
        what = f"an encoder {identity.arch} {identity.arch_args or ''}"
    else:
        tensors, target, what = read_state(path, KIND)["model"], method, "a training state"
    misfit = _misfit(target.state_dict(), tensors)
    if misfit:
        raise ValueError(f"{path} holds {what.strip()}, which does not fit the recipe's: {misfit}")
    target.load_state_dict(tensors)
    logger.info("weights from %s", path)


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return in a few words which tensors are missing, too many, or of another shape."""
    shapes = (n for n in wanted if n in given and wanted[n].shape != given[n].shape)
    kinds = {
        "missing": [n for n in wanted if n not in given],
        "too many": [n for n in given if n not in wanted],
        "of another shape": list(shapes),
    }
    return ", ".join(f"{len(n)} tensors {kind} ({n[0]}, ...)" for kind, n in kinds.items() if n)


def ensure_tokenizer(fabric: Fabric, recipe: Recipe, images: Images, path: Path) -> Path:
    """Return `path` once BEiT's tokenizer is there: trained on `images` if it is missing.

    A half-trained one is continued. Every process calls it; all train.
    """
    assert isinstance(recipe.method, BeitSettings)
    settings = recipe.method.tokenizer_training
    return train_tokenizer(
        fabric,
        images,
        settings,
        path,
        image_size=beit_without_weights(recipe).grid[0] * settings.sizes.downsampling,
        augmentation=recipe.augmentation,
        run=recipe.run,
        seed=recipe.seed,
    )


def beit_without_weights(recipe: Recipe) -> BEiT:
    """Return the recipe's BEiT on the meta device, for its sizes.

    Raises ValueError where architecture and image size do not fit.
    """
    assert isinstance(recipe.method, BeitSettings)
    with torch.device("meta"):
        return BEiT(
            arch=recipe.arch,
            arch_args=recipe.arch_args,
            image_size=recipe.image_size,
            vocab_size=recipe.method.tokenizer_training.tokenizer_vocab_size,
        )


def announce(
    recipe: Recipe,
    method: Method,
    images: int,
    share: BatchShare,
    length: RunLength,
    precision: str,
) -> None:
    """Say what is about to run."""
    encoder: int = sum(p.numel() for p in method.encoder.parameters())
    total = sum(p.numel() for p in method.parameters())
    logger.info(
        "%s on %s: %.2f M parameters, %.2f M with what is only for pretraining",
        recipe.method.name,
        recipe.arch,
        encoder / 1e6,
        total / 1e6,
    )
    logger.info("%d images; %s; %s", images, share, precision)
    logger.info("learning rate %g: %s", recipe.peak_lr(), lr_rule(recipe))
    logger.info(
        "%d steps, %d an epoch, %d of warm-up",
        length.steps,
        length.steps_per_epoch,
        length.warmup_steps,
    )
    if share.accumulation_steps > 1 and has_batch_norm(method):
        logger.warning(
            "BatchNorm's statistics are over %d images, not the %d of a step: raise "
            "--device-batch-size",
            share.batch * share.world,
            recipe.batch_size,
        )
