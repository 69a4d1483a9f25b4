"""A pretraining run: recipe and images -> encoder file.

launch -> method -> images -> [tokenizer] -> optimizer -> loop -> pictures, encoder file
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain import __version__
from pretrain.config import Recipe
from pretrain.config.recipe import FREE
from pretrain.data.batches import Batch, ImageSamples, loader
from pretrain.data.checked import checked_images
from pretrain.data.order import BatchShare, Order
from pretrain.data.sources import Images, digest, sampled_bytes
from pretrain.files.encoder_file import EncoderIdentity, write_encoder
from pretrain.files.lineage import Stage
from pretrain.files.write import atomic_write
from pretrain.methods import Method
from pretrain.methods.beit import BEiT
from pretrain.methods.build import crop_sizes, mask_drawer
from pretrain.pictures import picture_batch, reconstructions
from pretrain.prepare import KIND, announce, ensure_tokenizer, method_before_images, new_method
from pretrain.probe import Probe
from pretrain.run import folder
from pretrain.run.batch_norm import has_batch_norm
from pretrain.run.loop import Loop
from pretrain.run.precision import precision_of
from pretrain.run.processes import data_workers, is_first_process, launch
from pretrain.run.provenance import suite_commit
from pretrain.run.sheet import spread
from pretrain.run.trainee import LoopSettings, Trainee
from pretrain.schedule import (
    build_optimizer,
    clip_outside,
    learning_rate,
    run_length,
    set_step,
    weight_decay,
)
from pretrain.sparse.dense import synchronised_over_visible

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    init: Path | None = None,
    skip_unreadable: bool = False,
    check_images: bool = False,
    probe: Probe | None = None,
) -> None:
    """Run `recipe` on the images at `data` into the folder `out`.

    `init` gives weights to start from; `resume` goes on from a training state in `out`, if there
    is one. Raises ValueError or FileNotFoundError before the first step if anything does not fit,
    NotFiniteError at a step that cannot go on, and Stopped after a signal, once the state is saved.
    """
    run_folder = folder.RunFolder(out, folder.ENCODER, FREE)
    with run_folder.lock(first=is_first_process()):
        fabric = launch(recipe.run.device, recipe.precision)
        resume = resume and (out / folder.STATE).is_file()
        init = None if resume else init
        share = BatchShare.of(
            recipe.batch_size, recipe.run.device_batch_size, fabric.world_size, fabric.global_rank
        )
        method = method_before_images(recipe, init)
        images = checked_images(fabric, data, out, resume, skip_unreadable, check_images)
        run_length(recipe, len(images))  # refuses what is too short
        if method is None:
            tokenizer = ensure_tokenizer(fabric, recipe, images, out / folder.TOKENIZER)
            method = new_method(recipe, tokenizer, init)
        if fabric.world_size > 1:
            method = synchronised_over_visible(method, fabric.device)
        pretraining = Pretraining(fabric, recipe, images, share, method, out, probe)
        loop = Loop(fabric, pretraining, pretraining.settings(), out, resume)
        if fabric.is_global_zero:
            run_folder.begin(recipe.to_json())
        loop.run()
        pretraining.finish()


class Pretraining(Trainee):
    """One process of a pretraining."""

    kind = KIND
    model: Method
    advice = "try a lower --base-lr, --clip-norm, or --precision fp32"

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        images: Images,
        share: BatchShare,
        method: Method,
        out: Path,
        probe: Probe | None = None,
    ) -> None:
        self.fabric, self.recipe, self.images, self.share = fabric, recipe, images, share
        self.model, self.out, self.probe = method, out, probe
        self.figures: dict[str, float] = {}  # of a probe that no line of the log says yet
        self.length = run_length(recipe, len(images))
        per_epoch = self.length.steps_per_epoch
        self.order = Order(len(images), recipe.batch_size, per_epoch, recipe.seed)
        self.crop_sizes_px, self.draw_mask = crop_sizes(recipe, method), mask_drawer(recipe, method)
        named = list(method.named_parameters())
        self.optimizer = build_optimizer(named, recipe.optimizer, recipe.peak_lr())
        self.precision = precision_of(fabric)
        self.images_digest, self.commit = digest(images), suite_commit()

    def settings(self) -> LoopSettings:
        """Return what the loop has to know of the recipe."""
        recipe, run = self.recipe, self.recipe.run
        wanted = (run.encoder_epochs, self.probe and self.probe.every)
        interim = math.gcd(*(epochs for epochs in wanted if epochs))  # 0: none
        return LoopSettings(
            steps=self.length.steps,
            seed=recipe.seed,
            batch_size=recipe.batch_size,
            accumulation_steps=self.share.accumulation_steps,
            clip_norm=clip_outside(recipe.optimizer),
            compile=run.compile,
            log_steps=run.log_steps,
            checkpoint_steps=run.checkpoint_steps,
            interim_steps=interim * self.length.steps_per_epoch or None,
            keep_states=run.keep_states,
        )

    def announce(self) -> None:
        """Say what is about to run."""
        recipe, images = self.recipe, len(self.images)
        announce(recipe, self.model, images, self.share, self.length, self.precision)

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield this process's batches from step `first` on."""
        recipe, device = self.recipe, self.fabric.device
        samples = ImageSamples(
            self.images, recipe.augmentation, self.crop_sizes_px, self.draw_mask, recipe.seed
        )
        workers, pin = data_workers(recipe.run.workers, device), device.type == "cuda"
        return loader(samples, self.order, self.share, self.length.steps, first, workers, pin)

    def losses(self, model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return the method's loss of a batch, and what else it reports."""
        found = model(*batch.inputs(self.fabric.device, self.recipe.augmentation))
        return found if isinstance(found, dict) else {"loss": found}

    def set_step(self, step: int) -> None:
        """Give the optimizer the learning rate and weight decay of `step`."""
        set_step(self.optimizer, *self.rates(step))

    def rates(self, step: int) -> tuple[float, float]:
        """Return the learning rate and the weight decay of `step`."""
        recipe = self.recipe
        lr = learning_rate(recipe.schedule, recipe.peak_lr(), self.length, step)
        curve = recipe.schedule.curve
        return lr, weight_decay(recipe.optimizer, self.length, step, curve)

    def log_values(self, done: int) -> Mapping[str, float]:
        """Return the epoch and the rates of the last step, and new figures of the probe."""
        lr, decay = self.rates(done - 1)
        figures, self.figures = self.figures, {}
        epoch = self.order.epoch(done - 1) + 1
        return {"epoch": epoch, "lr": lr, "weight_decay": decay, **figures}

    def norm_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the encoder's parameters: its share of the gradient is worth a look."""
        return {"encoder": [p for p in self.model.encoder.parameters() if p.requires_grad]}

    def images_of(self, step: int) -> Sequence[str]:
        """Return the names of the images of a step."""
        return [self.images.name(i) for i in self.order.images_of(step)]

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must agree with, and what the next line of the log says."""
        return {
            "images": self.images_digest,
            "image_bytes": sampled_bytes(self.images),
            "precision": self.precision,
            "batch_norm_images": self.batch_norm_images(),
            **({"figures": self.figures} if self.figures else {}),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError for a state of other images or another precision."""
        if state["images"] != self.images_digest:
            raise ValueError("the training state belongs to other images: give another --out")
        before, now = state.get("image_bytes", {}), sampled_bytes(self.images)
        changed = [name for name, found in before.items() if now.get(name, found) != found]
        if changed:
            raise ValueError(
                f"{changed[0]} is another image than when the run began, under the same name: give "
                "the run its images back, or another --out"
            )
        if state["precision"] != self.precision:
            raise ValueError(
                f"the run was trained in {state['precision']}, here it would go on in "
                f"{self.precision}: resume it on a device of the same kind"
            )
        self.figures = state.get("figures", {})
        if state["batch_norm_images"] != self.batch_norm_images():
            logger.warning(
                "BatchNorm's statistics were over %s images, and are over %s from here on: "
                "--device-batch-size times the number of devices differs",
                state["batch_norm_images"],
                self.batch_norm_images(),
            )

    def batch_norm_images(self) -> int | None:
        """Return how many images BatchNorm sees at once; None without BatchNorm."""
        return self.share.batch * self.share.world if has_batch_norm(self.model) else None

    def after_save(self, done: int) -> None:
        """Write the encoder of the training state beside it."""
        self.write_encoder(self.out / folder.LATEST_ENCODER, done)

    def interim(self, done: int, trained: nn.Module) -> None:  # noqa: ARG002
        """Write the encoder of this epoch, to stay, and probe it, as each is due."""
        if not self.fabric.is_global_zero:
            return
        epoch, kept = done // self.length.steps_per_epoch, self.recipe.run.encoder_epochs
        if kept and epoch % kept == 0:
            self.write_encoder(self.out / folder.EPOCH_ENCODER.format(epoch), done)
        if self.probe and epoch % self.probe.every == 0:
            self.figures = self.probe.figures(lambda p: self.write_encoder(p, done), self.out)
            logger.info("epoch %d: %s", epoch, self.figures)

    def write_encoder(self, path: Path, done: int) -> None:
        """Write the encoder file of the weights as they are after `done` steps."""
        method, settings = self.model, self.recipe.augmentation
        tokenizer = {"tokenizer": method.tokenizer_digest} if isinstance(method, BEiT) else {}
        identity = EncoderIdentity(
            arch=method.arch,
            arch_args=method.arch_args,
            method=self.recipe.method.name,
            input_size=self.recipe.image_size,
            pixel_mean=settings.pixel_mean,
            pixel_std=settings.pixel_std,
            color_order="RGB",
            steps=done,
            recipe=self.recipe.to_json(),
            suite_version=__version__,
            commit=self.commit,
            stages=(self.stage(done),),
            extra={
                **tokenizer,
                "images": len(self.images),
                "precision": self.precision,
                "torch": torch.__version__,
                "lightning_fabric": lightning_fabric.__version__,
            },
        )
        write_encoder(path, method.encoder_state(), identity)

    def stage(self, done: int) -> Stage:
        """Return this pretraining as a stage of the encoder's lineage."""
        return Stage(
            method=self.recipe.method.name,
            data=f"{len(self.images):,} images {self.images_digest[:12]}",
            labels=False,
            steps=done,
            input_size=self.recipe.image_size,
            seed=self.recipe.seed,
        )

    def finish(self) -> None:
        """Write pictures, then the encoder file, whose presence means that the run is done."""
        if self.fabric.is_global_zero:
            self.write_picture()
            (self.out / folder.LATEST_ENCODER).unlink(missing_ok=True)
            self.write_encoder(self.out / folder.ENCODER, self.length.steps)
            logger.info("encoder: %s", self.out / folder.ENCODER)
        self.fabric.barrier()

    def write_picture(self) -> None:
        """Write reconstructions of some images, unless BEiT's tokenizer cannot decode."""
        if isinstance(self.model, BEiT) and not self.model.can_decode:
            logger.info("no %s: the tokenizer holds an encoder only", folder.PICTURE)
            return
        numbers = spread(len(self.images), self.recipe.run.pictures)
        batch = picture_batch(self.images, numbers, self.recipe, self.model)
        sheet = reconstructions(self.model, batch, self.recipe)
        atomic_write(self.out / folder.PICTURE, lambda p: sheet.save(p, "png"))
