"""The detector as the training loop sees it: batches, losses, learning rates, evaluations.

BatchNorm (unless frozen) sees one micro-batch of one process at a time, and each micro-batch
normalises its own losses: with BatchNorm an accumulated step is not the same as one large batch.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from pretrain.run.trainee import LoopSettings, Trainee
from transfer.detection import checkpoint
from transfer.detection.build import build_optimizer, place, plain
from transfer.detection.data import step_indices
from transfer.detection.evaluation.evaluate import evaluate
from transfer.detection.folder import about_run
from transfer.detection.optimizer import lr_factor, set_lr
from transfer.detection.prepare import Run, training_batches

logger = logging.getLogger(__name__)

Batch = list[dict[str, Any]]  # Detectron2's mapped records


class DetectorTraining(Trainee):
    """One process of a detector's training."""

    kind = checkpoint.KIND
    advice = "try a lower optimizer.lr, train.clip_norm=1, or train.precision=fp32"

    def __init__(self, setup: Run) -> None:
        self.setup, config = setup, setup.config
        self.model: nn.Module = place(setup.detector.model, setup.device)
        if config.train.compile:
            setup.detector.features.compile()  # the heads' shapes change from image to image
        self.optimizer = build_optimizer(config, self.model, setup.detector.features.arch)
        self.schedule: dict[str, Any] = plain(config.schedule)
        self.scalars: dict[str, list[float]] = {}  # what Detectron2 counted since the last line
        self.figures: dict[str, float] = {}  # of an evaluation that no line says yet

    def settings(self) -> LoopSettings:
        """Return what the loop has to know of the config."""
        config, train = self.setup.config, self.setup.config.train
        return LoopSettings(
            steps=config.schedule.steps,
            seed=config.seed,
            batch_size=train.batch_size,
            accumulation_steps=train.accumulation_steps,
            clip_norm=train.clip_norm,
            ema_decay=train.ema_decay,
            log_steps=train.log_steps,
            checkpoint_steps=train.checkpoint_steps,
            interim_steps=train.eval_steps,
            keep_states=train.keep_states,
        )

    def announce(self) -> None:
        """Say what is about to be trained."""
        detector, config = self.setup.detector, self.setup.config
        logger.info(
            "%s on %s: %d images, %d steps of %d, %s; weights: %s",
            detector.features.arch,
            config.data.name,
            len(self.setup.train.records.trainable()),
            config.schedule.steps,
            config.train.batch_size,
            config.train.precision,
            detector.report or "none, from scratch",
        )

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield this process's micro-batches from step `first` on."""
        return iter(training_batches(self.setup, first))

    def losses(self, model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Return Detectron2's losses of a batch and "loss", their sum."""
        with EventStorage(step) as storage:
            losses = model(batch)
        for name, (value, _) in storage.latest().items():
            self.scalars.setdefault(name, []).append(value)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def set_step(self, step: int) -> None:
        """Give every group of the optimizer its learning rate."""
        set_lr(self.optimizer, lr_factor(step, **self.schedule))

    def log_values(self, done: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the largest rate of the last step, Detectron2's counts, and new figures."""
        means = {name: sum(values) / len(values) for name, values in self.scalars.items()}
        values = {"lr": max(g["lr"] for g in self.optimizer.param_groups), **means, **self.figures}
        self.scalars, self.figures = {}, {}
        return values

    def images_of(self, step: int) -> Sequence[str]:
        """Return the files of a step, over all processes."""
        records, train = self.setup.train.records.trainable(), self.setup.config.train
        indices = step_indices(
            records.wide,
            self.setup.micro_batch,
            self.setup.config.seed,
            train.batch_size // self.setup.micro_batch,
            step,
        )
        return [records[i]["file_name"] for i in indices]

    def state(self) -> dict[str, Any]:
        """Return what the next line of the log will say, and what the detector is."""
        return {"scalars": self.scalars, "figures": self.figures, **about_run(self.setup)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned; that it is the same run was checked in its folder."""
        self.scalars, self.figures = state["scalars"], state["figures"]

    def interim(self, done: int, trained: nn.Module) -> None:
        """Evaluate `trained`, into the folder eval/; the next line of the log has the figures."""
        evaluator, _ = evaluate(self.setup, trained, self.setup.out / "eval")
        if evaluator.metrics is not None:
            self.figures = evaluator.metrics.metrics
            shown = "  ".join(f"{name} {value:.2f}" for name, value in self.figures.items())
            logger.info("after step %d: %s", done, shown)
