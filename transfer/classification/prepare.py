"""A config and data -> everything a run needs, checked: images, labels, classifier, share."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric

from pretrain.checks.findings import refuse_errors
from pretrain.data.order import BatchShare
from pretrain.data.turns import Turns
from pretrain.run.batch_norm import has_batch_norm, synchronised
from pretrain.run.precision import precision_of
from pretrain.run.processes import available_cores
from pretrain.schedule import RunLength, schedule_length
from transfer.classification.classifier import Built, build_classifier
from transfer.classification.config import ConfigError, FineTuning
from transfer.datasets.class_checks import check_splits
from transfer.datasets.class_split import ClassSplit, open_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Everything a run needs, checked and built."""

    config: FineTuning
    file: Path | None  # of the config
    out: Path
    data: Path
    fabric: Fabric
    train_split: ClassSplit | None  # None where a trained classifier is only evaluated
    val_split: ClassSplit | None  # None where nothing is evaluated
    built: Built

    @property
    def train(self) -> ClassSplit:
        """Return the training images. Raises ValueError where there are none."""
        if self.train_split is None:
            raise ValueError("this run only evaluates: it has no training data")
        return self.train_split

    @property
    def val(self) -> ClassSplit:
        """Return the images to evaluate on. Raises ValueError where there are none."""
        if self.val_split is None:
            raise ValueError("evaluate=false: this run has no images to evaluate on")
        return self.val_split

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes, in the order of the classifier's outputs."""
        return (self.train_split or self.val).classes

    @property
    def share(self) -> BatchShare:
        """This process's share of a step. Raises ValueError if it cannot be divided."""
        fabric, config = self.fabric, self.config
        return BatchShare.of(
            config.batch_size, config.run.device_batch_size, fabric.world_size, fabric.global_rank
        )

    @property
    def length(self) -> RunLength:
        """Return how long to train. Raises ValueError if the images do not fill a step."""
        return schedule_length(self.config.schedule, self.config.batch_size, len(self.train))

    @property
    def precision(self) -> str:
        """Return the arithmetic: fp32, bf16 or fp16."""
        return precision_of(self.fabric)


def prepare(
    config: FineTuning,
    file: Path | None,
    data: Path,
    out: Path,
    fabric: Fabric,
    classes: Sequence[str] | None = None,
) -> Run:
    """Check the data, read it, and build the classifier; every process calls it.

    With `classes`, those of a trained classifier, only the validation images are read. Raises
    ValueError for data, settings or weights that do not fit.
    """
    train, val = Turns(fabric).in_order(lambda: _read(config, data, classes))
    count = len(classes) if classes is not None else len(cast("ClassSplit", train).classes)
    made = Run(config, file, out, data, fabric, train, val, build_classifier(config, count))
    if train is not None:
        _check_batch(made)
        if fabric.world_size > 1 and config.batch_norm == "SyncBN":
            made.built.model.encoder = synchronised(made.built.model.encoder, fabric.device)
    return made


def _read(
    config: FineTuning, data: Path, classes: Sequence[str] | None
) -> tuple[ClassSplit | None, ClassSplit | None]:
    """Return the training and validation split, checked."""
    cores = available_cores()
    if classes is not None:
        return None, open_split(data, "val", classes, cores)
    train = open_split(data, "train", None, cores)
    val = open_split(data, "val", train.classes, cores) if config.evaluate else None
    findings = check_splits(train, val)
    refuse_errors(findings, config.allow_findings)
    for finding in findings:
        logger.warning("%s", finding)
    return train, val


def _check_batch(run: Run) -> None:
    """Raise ConfigError or ValueError for a batch that cannot be divided, or not be mixed."""
    share = run.share
    run.length  # noqa: B018 - refuse a schedule that does not fit
    if run.config.targets.mixes and share.batch % 2:
        raise ConfigError(
            f"mixup and cutmix take images in pairs, and a device has {share.batch} at once: "
            "choose an even device_batch_size"
        )


def notes_of(run: Run) -> list[str]:
    """Return what a reader of the figures should know of this run."""
    if run.train_split is None or not has_batch_norm(run.built.model):
        return []
    notes = []
    if run.config.batch_norm == "SyncBN" and run.fabric.world_size == 1:
        notes.append("SyncBN ran as BatchNorm: one process")
    if run.share.accumulation_steps > 1:
        notes.append(
            f"gradients of {run.share.accumulation_steps} passes are accumulated, but BatchNorm "
            "saw one pass at a time"
        )
    return notes


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a model to its device, on a GPU with the weights of convolutions channels last."""
    model.to(device)
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model
