"""A config -> everything a run needs, checked: data, detector, device, batches."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetMapper
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from pretrain.checks.findings import Finding, refuse_errors
from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.datasets.coco_file import CocoFile, Contents
from transfer.detection.build import Detector, build_detector
from transfer.detection.config import ConfigError
from transfer.detection.data import (
    Split,
    read_split,
    register,
    require_same_classes,
    train_loader,
)
from transfer.detection.evaluation.coco_eval import check_engine
from transfer.detection.processes import once_per_machine
from transfer.weights import PixelStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Everything a run needs, checked and built."""

    config: DictConfig
    out: Path
    device: torch.device
    train_split: Split | None  # None where a trained detector is only evaluated
    val: Split
    detector: Detector

    @property
    def train(self) -> Split:
        """Return the training split; ValueError where there is none."""
        if self.train_split is None:
            raise ValueError("this run only evaluates: it has no training data")
        return self.train_split

    @property
    def micro_batch(self) -> int:
        """Return the images a process sees at once. Raises ConfigError where they do not divide."""
        train, world = self.config.train, comm.get_world_size()
        size, rest = divmod(train.batch_size, train.accumulation_steps * world)
        if rest or not size:
            raise ConfigError(
                f"train.batch_size={train.batch_size} cannot be split over {world} process(es) "
                f"times train.accumulation_steps={train.accumulation_steps}"
            )
        return size


def prepare(config: DictConfig, pixels: PixelStats | None = None, *, training: bool = True) -> Run:
    """Check the data, read it, and build the detector (for pixels as given, not the encoder's).

    Without `training` only the validation data is needed. Raises ValueError for wrong data or
    settings, ConfigError if masks are to be trained and annotations have none.
    """
    splits = _read_data(config, ("train", "val") if training else ("val",))
    train_split, val_split = splits.get("train"), splits["val"]
    if train_split is not None:
        require_same_classes(train_split, val_split)
    check_engine(config.test.engine, val_split.file.is_lvis)
    if config.model.masks and not all(split.has_masks for split in splits.values()):
        raise ConfigError(
            "some annotations have no segmentation: set model.masks=false to train on boxes only"
        )
    for split in splits.values():
        register(split)
    detector = build_detector(config, len(val_split.classes), pixels)
    name = config.train.device
    if name == "auto":
        name = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    made = Run(config, Path(config.output_dir), device, train_split, val_split, detector)
    if training:
        made.micro_batch  # noqa: B018 - refuse a batch that cannot be divided
    return made


def _read_data(config: DictConfig, names: tuple[str, ...]) -> dict[str, Split]:
    """Return the checked splits by name; ValueError for errors that the config does not allow."""
    data = config.data
    shares = {"train": data.train_share, "val": 1.0}
    parts = [
        CocoSplit(name, Path(data[f"{name}_json"]), Path(data[f"{name}_images"]), shares[name])
        for name in names
    ]
    findings, files = once_per_machine(lambda: _check_and_pack(parts, tuple(config.allow_findings)))
    for finding in findings:
        logger.warning("%s", finding)
    return {
        part.name: read_split(
            f"{data.name}_{part.name}",
            part.annotations,
            part.images,
            files.get(part.name),
            share=part.share,
        )
        for part in parts
    }


def _check_and_pack(
    parts: list[CocoSplit], allow: tuple[str, ...]
) -> tuple[list[Finding], dict[str, CocoFile]]:
    contents: dict[str, Contents] = {}
    findings = check_coco(parts, contents=contents)
    refuse_errors(findings, allow=allow)
    return findings, {name: contents.pop(name).packed() for name in list(contents)}


def mapper_of(setup: Run, *, training: bool) -> DatasetMapper:
    """Detectron2's mapper with the config's augmentations, in the encoder's colour order."""
    settings = setup.config.input
    return DatasetMapper(
        is_train=training,
        augmentations=list(instantiate(settings.train if training else settings.test)),
        image_format=setup.detector.image_format,
        use_instance_mask=setup.config.model.masks,
        instance_mask_format=(setup.train if training else setup.val).mask_format,
        recompute_boxes=settings.recompute_boxes and setup.config.model.masks,
    )


def training_batches(setup: Run, start_step: int) -> DataLoader:
    """Micro-batches of this process from `start_step` on."""
    settings = setup.config.train
    return train_loader(
        setup.train.records.trainable(),
        mapper_of(setup, training=True),
        micro_batch=setup.micro_batch,
        accumulate=settings.accumulation_steps,
        seed=setup.config.seed,
        start_step=start_step,
        workers=settings.workers,
    )
