"""The classifier as the training loop sees it: batches, losses, learning rates, evaluations."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from pretrain.data.order import Order
from pretrain.run.processes import data_workers
from pretrain.run.trainee import LoopSettings, Trainee
from pretrain.schedule import learning_rate
from transfer.classification.config import FineTuning, Targets
from transfer.classification.data import (
    Batch,
    RepeatedOrder,
    TrainingSamples,
    train_transform,
    training_loader,
)
from transfer.classification.evaluate import evaluate
from transfer.classification.optimizer import build_optimizer, set_lr
from transfer.classification.prepare import Run, place

logger = logging.getLogger(__name__)

KIND = "classification"  # of the training state


class ClassifierTraining(Trainee):
    """One process of a fine-tuning."""

    kind = KIND
    advice = "try a lower base_lr, clip_norm=1, or precision=fp32"

    def __init__(self, run: Run) -> None:
        self.made, config = run, run.config
        self.model: nn.Module = place(run.built.model, run.fabric.device)
        self.length, self.peak_lr = run.length, config.peak_lr()
        arch = run.built.model.arch
        self.optimizer = build_optimizer(self.model, config.optimizer, self.peak_lr, arch)
        self.order = order_of(config, len(run.train), self.length.steps_per_epoch)
        self.mix = mixing(config.targets, len(run.classes))
        self.criterion = criterion(config.targets)
        self.figures: dict[str, float] = {}  # of an evaluation that no line of the log says yet

    def settings(self) -> LoopSettings:
        """Return what the loop has to know of the config."""
        config, run = self.made.config, self.made.config.run
        interim = run.eval_epochs if config.evaluate else None
        return LoopSettings(
            steps=self.length.steps,
            seed=config.seed,
            batch_size=config.batch_size,
            accumulation_steps=self.made.share.accumulation_steps,
            clip_norm=config.optimizer.clip_norm,
            ema_decay=config.ema_decay,
            compile=run.compile,
            log_steps=run.log_steps,
            checkpoint_steps=run.checkpoint_steps,
            interim_steps=interim and interim * self.length.steps_per_epoch,
            keep_states=run.keep_states,
        )

    def announce(self) -> None:
        """Say what is about to be trained."""
        made, length = self.made, self.length
        logger.info(
            "%s on %s: %d images of %d classes; %s; %s; weights: %s",
            made.built.model.arch,
            made.config.dataset,
            len(made.train),
            len(made.classes),
            made.share,
            made.precision,
            made.built.report or "none, from scratch",
        )
        logger.info(
            "%d steps, %d an epoch, %d of warm-up; learning rate %g at most",
            length.steps,
            length.steps_per_epoch,
            length.warmup_steps,
            self.peak_lr,
        )

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield this process's batches from step `first` on."""
        made, device = self.made, self.made.fabric.device
        transform = train_transform(made.config.images, made.built.pixels)
        samples = TrainingSamples(made.train, transform, made.config.seed)
        workers = data_workers(made.config.run.workers, device)
        return training_loader(
            samples,
            self.order,
            made.share,
            self.length.steps,
            first,
            workers,
            device.type == "cuda",
        )

    def losses(self, model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return the loss of a batch, its images mixed with draws that the loop has seeded."""
        device = self.made.fabric.device
        images = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        if self.mix is not None:
            images, labels = self.mix(images, labels)
        return {"loss": self.criterion(model(images), labels)}

    def set_step(self, step: int) -> None:
        """Give every group of the optimizer its learning rate."""
        set_lr(self.optimizer, self.rate(step))

    def rate(self, step: int) -> float:
        """Return the learning rate of the classifier in a step."""
        return learning_rate(self.made.config.schedule, self.peak_lr, self.length, step)

    def log_values(self, done: int) -> Mapping[str, float]:
        """Return the epoch, the rate of the last step, and new figures."""
        figures, self.figures = self.figures, {}
        return {"epoch": self.order.epoch(done - 1) + 1, "lr": self.rate(done - 1), **figures}

    def images_of(self, step: int) -> Sequence[str]:
        """Return the names of the images of a step."""
        train = self.made.train
        return [train.images.name(i % len(train)) for i in self.order.images_of(step).tolist()]

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must agree with, and what the next line of the log says."""
        return {"precision": self.made.precision, "figures": self.figures}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned. Raises ValueError for another precision."""
        if state["precision"] != self.made.precision:
            raise ValueError(
                f"the run was trained in {state['precision']}, here it would go on in "
                f"{self.made.precision}: resume it on a device of the same kind"
            )
        self.figures = state["figures"]

    def interim(self, done: int, trained: nn.Module) -> None:
        """Evaluate `trained`; the next line of the log has the figures."""
        made = self.made
        found = evaluate(made.fabric, trained, made.val, made.built.pixels, made.config)
        self.figures = dict(found.metrics)
        shown = "  ".join(f"{name} {value:.2f}" for name, value in self.figures.items())
        logger.info("after step %d: %s", done, shown)


def order_of(config: FineTuning, images: int, steps_per_epoch: int) -> Order:
    """Return the order of the images, each several times in a row where that is asked for."""
    if config.repeats == 1:
        return Order(images, config.batch_size, steps_per_epoch, config.seed)
    return RepeatedOrder(images, config.batch_size, steps_per_epoch, config.seed, config.repeats)


def mixing(targets: Targets, classes: int) -> Mixup | None:
    """Return timm's mixup and cutmix; None where images are not mixed."""
    if not targets.mixes:
        return None
    return Mixup(
        mixup_alpha=targets.mixup,
        cutmix_alpha=targets.cutmix,
        label_smoothing=targets.label_smoothing,
        num_classes=classes,
    )


def criterion(targets: Targets) -> nn.Module:
    """Return timm's loss; where images are mixed, the targets are smoothed already."""
    if targets.loss == "binary":
        return BinaryCrossEntropy(smoothing=0.0 if targets.mixes else targets.label_smoothing)
    if targets.mixes:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(targets.label_smoothing)
