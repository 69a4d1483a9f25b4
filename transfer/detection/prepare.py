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

from pretrain.checks.findings import refuse_errors
from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.detection.build import Detector, build_detector
from transfer.detection.config import ConfigError
from transfer.detection.data import Split, read_pair, register, train_loader, trainable
from transfer.detection.evaluation.coco_eval import check_engine
from transfer.weights import PixelStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Everything a run needs, checked and built."""

    config: DictConfig
    out: Path
    device: torch.device
    train: Split
    val: Split
    detector: Detector

    @property
    def micro_batch(self) -> int:
        """Images a process sees at once; ConfigError where the batch cannot be divided so."""
        train, world = self.config.train, comm.get_world_size()
        size, rest = divmod(train.batch, train.accumulate * world)
        if rest or not size:
            raise ConfigError(
                f"train.batch={train.batch} cannot be split over {world} process(es) times "
                f"train.accumulate={train.accumulate}"
            )
        return size


def prepare(config: DictConfig, pixels: PixelStats | None = None) -> Run:
    """Check the data, read it, and build the detector (for pixels as given, not the encoder's)."""
    data = config.data
    parts = [
        CocoSplit(name, Path(data[f"{name}_json"]), Path(data[f"{name}_images"]))
        for name in ("train", "val")
    ]
    findings = check_coco(parts)
    refuse_errors(findings, allow=tuple(config.allow))
    for finding in findings:
        logger.warning("%s", finding)
    train_split, val_split = read_pair(data)
    check_engine(config.test.engine, val_split.ground_truth)
    masks = config.model.masks
    if masks and not (train_split.has_masks and val_split.has_masks):
        raise ConfigError(
            "some annotations have no segmentation: set model.masks=false to train on boxes only"
        )
    for split in (train_split, val_split):
        register(split)
    detector = build_detector(config, len(train_split.classes), pixels)
    name = config.train.device
    if name == "auto":
        name = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    made = Run(config, Path(config.output_dir), device, train_split, val_split, detector)
    made.micro_batch  # noqa: B018 - refuse a batch that cannot be divided
    return made


def mapper_of(setup: Run, *, training: bool) -> DatasetMapper:
    """Detectron2's mapper with the config's augmentations, in the encoder's colour order."""
    settings = setup.config.input
    return DatasetMapper(
        is_train=training,
        augmentations=list(instantiate(settings.train if training else settings.test)),
        image_format=setup.detector.image_format,
        use_instance_mask=setup.config.model.masks,
        instance_mask_format=setup.train.mask_format,
        recompute_boxes=settings.recompute_boxes and setup.config.model.masks,
    )


def training_batches(setup: Run, start_step: int) -> DataLoader:
    """Micro-batches of this process from `start_step` on."""
    settings = setup.config.train
    return train_loader(
        trainable(setup.train.records),
        mapper_of(setup, training=True),
        micro_batch=setup.micro_batch,
        accumulate=settings.accumulate,
        seed=setup.config.seed,
        start_step=start_step,
        workers=settings.workers,
    )
