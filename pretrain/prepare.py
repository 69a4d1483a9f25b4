"""What happens before the first step: devices, images, tokenizer, weights to start from."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from pretrain.config import BeitSettings, Recipe
from pretrain.config.explain import lr_rule
from pretrain.data.order import Split
from pretrain.data.sources import Images
from pretrain.files.encoder_file import read_encoder
from pretrain.files.training_state import read_state
from pretrain.methods import Method
from pretrain.methods.beit import BEiT
from pretrain.run import folder
from pretrain.schedule import Plan
from pretrain.tokenizer.training import train_tokenizer

log = logging.getLogger(__name__)


def tokenizer_file(fabric: Fabric, recipe: Recipe, images: Images, out: Path) -> Path | None:
    """BEiT's tokenizer: the recipe's, or one trained on the run's images first."""
    if not isinstance(recipe.method, BeitSettings):
        return None
    if recipe.method.tokenizer:
        return Path(recipe.method.tokenizer)
    return ensure_tokenizer(out / folder.TOKENIZER, images, recipe, fabric)


def initialise(method: Method, path: Path) -> None:
    """Take weights, and nothing else, from an encoder file or a training state."""
    if path.suffix == ".safetensors":
        tensors, identity = read_encoder(path)
        target: Any = method.encoder
        what = f"an encoder {identity.arch} {identity.arch_args or ''}"
    else:
        tensors, target, what = (
            read_state(path, "pretraining")["method"],
            method,
            "a training state",
        )
    try:
        target.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds {what}, which does not fit the recipe's: {error}"
        ) from error
    log.info("weights from %s", path)


def introduce(
    recipe: Recipe, method: Method, images: Images, split: Split, length: Plan,
    resumed_at: int | None,
) -> None:  # fmt: skip
    """Say what is about to run."""
    encoder: int = sum(p.numel() for p in method.encoder.parameters())
    total = sum(p.numel() for p in method.parameters())
    log.info("%s on %s: %.2f M parameters, %.2f M with what is only for pretraining",
             recipe.method.name, recipe.arch, encoder / 1e6, total / 1e6)  # fmt: skip
    log.info("%d images; %s", len(images), split)
    log.info("learning rate %g: %s", recipe.peak_lr(), lr_rule(recipe))
    log.info("%d steps, %d an epoch, %d of warm-up",
             length.steps, length.steps_per_epoch, length.warmup_steps)  # fmt: skip
    if split.accumulation > 1 and any(isinstance(m, nn.BatchNorm2d) for m in method.modules()):
        log.warning("BatchNorm's statistics are over %d images, not the whole step",
                    split.batch * split.world)  # fmt: skip
    if resumed_at is not None:
        log.info("resumed after step %d", resumed_at)


def ensure_tokenizer(path: Path, images: Images, recipe: Recipe, fabric: Fabric) -> Path:
    """The tokenizer at `path` for a BEiT recipe that names none; trained on `images` if missing.

    A half-trained one is continued. Every process calls it; all train.
    """
    assert isinstance(recipe.method, BeitSettings)
    settings = recipe.method.tokenizer_training
    with torch.device("meta"):
        encoder = BEiT(
            arch=recipe.arch,
            arch_args=recipe.arch_args,
            image_size=recipe.image_size,
            vocab_size=settings.tokenizer_vocab_size,
        )
    return train_tokenizer(
        fabric,
        images,
        settings,
        path,
        image_size=encoder.grid[0] * settings.sizes.downsampling,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        device_batch_size=recipe.run.device_batch_size,
        workers=recipe.run.workers,
        checkpoint_steps=recipe.run.checkpoint_steps,
    )
