"""The training of a tokenizer: images -> a tokenizer file.

    images -> random crops -> a window of each -> discrete VAE -> loss -> AdamW -> file

Beside FILE.safetensors the folder FILE/ holds the training state, the log and a picture.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain.config import Augmentation, RunSettings, TokenizerSettings
from pretrain.data.batches import Batch, ImageSamples, loader
from pretrain.data.order import BatchShare, Order
from pretrain.data.sources import Images, digest
from pretrain.files.write import atomic_write
from pretrain.run import folder
from pretrain.run.loop import Loop
from pretrain.run.precision import precision_of
from pretrain.run.processes import data_workers
from pretrain.run.provenance import suite_commit
from pretrain.run.trainee import LoopSettings, Trainee
from pretrain.tokenizer.codebook import CodebookUse, central_squares, measure
from pretrain.tokenizer.vae import DiscreteVAE, load_tensors, place_codes, write_tokenizer

logger = logging.getLogger(__name__)

PLACING_IMAGES = 64  # whose patches the codes start from


def train_tokenizer(
    fabric: Fabric,
    images: Images,
    settings: TokenizerSettings,
    path: Path,
    *,
    image_size: int,
    augmentation: Augmentation,
    run: RunSettings,
    seed: int = 0,
) -> Path:
    """Train on crops of `image_size` px and write `path`; return it at once if it is there already.

    Continues from the training state in the folder beside `path` if there is one. Raises
    ValueError before the first step if anything does not fit, NotFiniteError at a step that cannot
    go on, and Stopped after a signal, once the state is saved.
    """
    fabric.barrier()
    place = path.with_suffix("")
    if path.is_file():  # with a state beside it if killed at that moment
        (place / folder.STATE).unlink(missing_ok=True)
        return path
    batch_size = settings.tokenizer_batch_size
    share = BatchShare.of(batch_size, run.device_batch_size, fabric.world_size, fabric.global_rank)
    if len(images) < batch_size:
        raise ValueError(
            f"{len(images)} images do not fill one step of {batch_size}: "
            "lower --tokenizer-batch-size"
        )
    if fabric.is_global_zero:
        logger.info("training a tokenizer of %d codes: %s", settings.tokenizer_vocab_size, path)
    training = TokenizerTraining(
        fabric,
        images,
        settings,
        share,
        path,
        image_size=image_size,
        augmentation=augmentation,
        workers=data_workers(run.workers, fabric.device),
        seed=seed,
    )
    length = LoopSettings(
        steps=settings.tokenizer_steps,
        seed=seed,
        batch_size=batch_size,
        accumulation_steps=share.accumulation_steps,
        clip_norm=settings.tokenizer_clip_norm,
        ema_decay=settings.tokenizer_ema_decay,
        log_steps=run.log_steps,
        checkpoint_steps=run.checkpoint_steps,
    )
    loop = Loop(fabric, training, length, place, resume=True)
    loop.run()
    if fabric.is_global_zero:
        training.finish(loop.trained)
    fabric.barrier()
    return path


class TokenizerTraining(Trainee):
    """One process of a tokenizer's training."""

    kind = "tokenizer"
    advice = "try a lower --tokenizer-lr"

    def __init__(
        self,
        fabric: Fabric,
        images: Images,
        settings: TokenizerSettings,
        share: BatchShare,
        path: Path,
        *,
        image_size: int,
        augmentation: Augmentation,
        workers: int,
        seed: int,
    ) -> None:
        self.fabric, self.images, self.settings, self.share = fabric, images, settings, share
        self.path, self.place, self.image_size = path, path.with_suffix(""), image_size
        self.augmentation, self.workers, self.seed = augmentation, workers, seed
        batch_size = settings.tokenizer_batch_size
        self.order = Order(len(images), batch_size, len(images) // batch_size, seed)
        torch.manual_seed(seed)
        self.model = DiscreteVAE(settings.sizes).to(memory_format=torch.channels_last)
        if settings.tokenizer_place_codes:
            place_codes(self.model, central_squares(images, PLACING_IMAGES, image_size))
        groups = [{"params": list(part.parameters())} for part in self.model.children()]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.tokenizer_weight_decay)
        self.counts = torch.zeros(settings.tokenizer_vocab_size, device=fabric.device)
        self.identity = {**asdict(settings), "image_size": image_size, "seed": seed}

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield this process's batches from step `first` on."""
        samples = ImageSamples(
            self.images, self.augmentation, (self.image_size,), _no_mask, self.seed
        )
        steps, pin = self.settings.tokenizer_steps, self.fabric.device.type == "cuda"
        return loader(samples, self.order, self.share, steps, first, self.workers, pin)

    def losses(self, model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Return the loss of a window of the batch and its two parts; count the codes."""
        settings = self.settings
        images = batch.images.to(self.fabric.device, non_blocking=True)
        window = _window(images, settings.tokenizer_crop_px)
        losses = model(window, settings.temperature(step), settings.beta(step))
        tokens = losses.pop("tokens")
        self.counts += CodebookUse.count(tokens, settings.tokenizer_vocab_size)
        return losses

    def set_step(self, step: int) -> None:
        """Give encoder and decoder their learning rates."""
        rates = (self.settings.encoder_lr(step), self.settings.lr(step))
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr

    def log_values(self, done: int) -> Mapping[str, float]:
        """Return the rates of the last step, and the codes used since the last line."""
        use, settings, step = CodebookUse.of(self.counts), self.settings, done - 1
        self.counts.zero_()
        return {
            "lr": settings.lr(step),
            "temperature": settings.temperature(step),
            "beta": settings.beta(step),
            "perplexity": use.perplexity,
            "codes_used": use.used,
        }

    def images_of(self, step: int) -> Sequence[str]:
        """Return the names of the images of a step."""
        return [self.images.name(i) for i in self.order.images_of(step)]

    def state(self) -> dict[str, Any]:
        """Return what the tokenizer is trained with, and the codes since the last line."""
        precision = precision_of(self.fabric)
        identity = {**self.identity, "images": digest(self.images), "precision": precision}
        return {"identity": identity, "counts": self.counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError for the state of a tokenizer with other settings or images."""
        if state["identity"] != self.state()["identity"]:
            raise ValueError(
                f"{self.place / folder.STATE} belongs to a tokenizer with other settings, images "
                f"or precision: remove {self.place}, or choose another name"
            )
        self.counts.copy_(state["counts"])

    def finish(self, trained: nn.Module) -> None:
        """Count the codes in use, draw the picture, write the tokenizer, drop the state."""
        vae = load_tensors(DiscreteVAE(self.settings.sizes), trained.state_dict(), "trained")
        facts, picture = measure(vae.to(self.fabric.device), self.images, self.image_size)
        atomic_write(self.place / folder.PICTURE, lambda p: picture.save(p, "png"))
        data = {"images": len(self.images), "names_sha256": digest(self.images)}
        about = {"training": self.identity, "data": data, "codebook": facts}
        write_tokenizer(self.path, vae, {**about, "commit": suite_commit()})
        (self.place / folder.STATE).unlink(missing_ok=True)


def _no_mask(_rng: np.random.Generator) -> np.ndarray:
    return np.ones((1, 1), dtype=bool)


def _window(images: Tensor, side: int) -> Tensor:
    """Cut one random window of `side` px (0: no crop) from uint8 (B, 3, H, W); return [0, 1]."""
    height, width = images.shape[-2:]
    if side and side < min(height, width):
        top = int(torch.randint(height - side + 1, (1,)))
        left = int(torch.randint(width - side + 1, (1,)))
        images = images[..., top : top + side, left : left + side]
    return images.float().div(255).contiguous(memory_format=torch.channels_last)
