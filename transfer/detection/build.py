"""A config -> a detector with its weights, and the optimizer that trains it."""

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from omegaconf import DictConfig, OmegaConf
from timm.layers import freeze_batch_norm_2d
from timm.models.resnet import Bottleneck
from torch import nn

from pretrain.run.batch_norm import has_batch_norm, synchronised
from transfer.detection.config import ConfigError
from transfer.detection.optimizer import parameter_groups
from transfer.detection.precision import losses_in_float32
from transfer.features import TimmFeatures
from transfer.features.plain_vit import add_decomposed_position
from transfer.weights import LoadReport, PixelStats, features_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detector:
    """Mask R-CNN, and what is known of its encoder."""

    model: GeneralizedRCNN
    features: TimmFeatures
    report: LoadReport | None  # None for scratch
    pixels: PixelStats
    notes: tuple[str, ...] = ()

    @property
    def image_format(self) -> str:
        """Colour order the model wants its images in."""
        return self.pixels.color_order


def build_detector(
    config: DictConfig, num_classes: int, pixels: PixelStats | None = None
) -> Detector:
    """Build the model of a config and load its encoder, strictly, on the CPU.

    The fresh parts are drawn from `config.seed`: equal for equal architectures, whatever weights
    the encoder has. ConfigError, or WeightsError of transfer.weights.
    """
    torch.manual_seed(config.seed)
    settings = plain(config.features)
    settings["checkpointing"] = settings.pop("grad_checkpointing")
    settings.setdefault("pyramid_channels", config.model.channels)
    strides_first = settings.pop("stride_in_1x1")
    positions_px = settings.pop("decomposed_position")
    features, report, own_pixels = features_for(
        config.weights,
        config.arch,
        plain(config.arch_args) or None,
        source=config.weights_source,
        fresh=tuple(config.fresh),
        unused=tuple(config.unused),
        seed=config.seed,
        freeze=config.freeze,
        **settings,
    )
    if strides_first:
        stride_in_1x1(features)
    if positions_px is not None:
        add_decomposed_position(features, positions_px)
    freeze_stages(features, config.freeze_stages)
    features.encoder = set_backbone_norm(features.encoder, config.backbone_norm)
    pixels = pixels or _pixels(config, report) or own_pixels
    kwargs = plain(config.model)
    build = kwargs.pop("_target_")
    torch.manual_seed(config.seed + 1)
    model = build(
        features,
        num_classes=num_classes,
        pixel_mean=[255 * v for v in pixels.mean],
        pixel_std=[255 * v for v in pixels.std],
        color_order=pixels.color_order,
        **kwargs,
    )
    losses_in_float32(model)
    notes = _notes(config, model)
    if config.pixels is not None:
        notes = (*notes, f"pixels set by the config: {pixels}, the weights' are {own_pixels}")
    return Detector(model, features, report, pixels, notes)


def _pixels(config: DictConfig, report: LoadReport | None) -> PixelStats | None:
    """Return the config's pixel statistics; without any, warn where the file's are assumed."""
    if config.pixels is not None:
        chosen = plain(config.pixels)
        return PixelStats(tuple(chosen["mean"]), tuple(chosen["std"]), chosen["color_order"])
    if report is not None and report.identity["extra"].get("other_pixels"):
        logger.warning("%s: pixels %s; set pixels={...} if so", report.file, report.pixels)
    return None


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to its device, on a GPU with the weights of convolutions channels last."""
    model.to(device)
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model


def freeze_stages(features: TimmFeatures, count: int) -> None:
    """Freeze a ResNet as Detectron2's FREEZE_AT: 1 fixes the stem, 2 also the first stage, ...

    Raises ConfigError for another encoder.
    """
    if not count:
        return
    names = ("conv1", "bn1"), *((f"layer{i}",) for i in range(1, 5))
    parts = [name for group in names[:count] for name in group]
    if not all(hasattr(features.encoder, name) for name in parts):
        raise ConfigError(f"freeze_stages is for ResNets of timm, not for {features.arch}")
    for name in parts:
        part = getattr(features.encoder, name)
        part.requires_grad_(False)
        setattr(features.encoder, name, freeze_batch_norm_2d(part))


def stride_in_1x1(features: TimmFeatures) -> None:
    """Move a ResNet's strides from the 3x3 to the first 1x1 convolutions, as MSRA's nets have it.

    Raises ConfigError for another encoder.
    """
    blocks = [m for m in features.encoder.modules() if isinstance(m, Bottleneck)]
    if not blocks:
        raise ConfigError(
            f"features.stride_in_1x1 is for ResNets of bottlenecks, not for {features.arch}"
        )
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def build_optimizer(config: DictConfig, model: nn.Module, arch: str) -> torch.optim.Optimizer:
    """Build the config's optimizer over groups with layer-wise learning rates.

    Raises ConfigError if nothing is left to train.
    """
    kwargs = plain(config.optimizer)
    build = kwargs.pop("_target_")
    groups = parameter_groups(
        model,
        arch=arch,
        lr=kwargs["lr"],
        weight_decay=kwargs["weight_decay"],
        layer_decay=config.layer_decay,
        rule=config.layer_decay_rule,
        no_weight_decay=config.no_weight_decay,
    )
    if not groups:
        raise ConfigError("nothing is left to train")
    return build(groups, **kwargs)


def plain(node: Any) -> Any:
    """Return a config node as Python dicts and lists; classes stay what they are."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _notes(config: DictConfig, model: nn.Module) -> tuple[str, ...]:
    """Return what a reader of the figures should know of this process' BatchNorm."""
    if not has_batch_norm(model):
        return ()
    asked = {
        config.model.fpn_norm,
        config.model.box_norm,
        config.model.mask_norm,
        config.backbone_norm,
    }
    notes = []
    if "SyncBN" in asked and comm.get_world_size() == 1:
        notes.append("SyncBN ran as BatchNorm: one process")
    if config.train.accumulation_steps > 1:
        notes.append(
            f"gradients of {config.train.accumulation_steps} micro-batches are accumulated, but "
            "BatchNorm saw one micro-batch at a time"
        )
    return tuple(notes)


BACKBONE_NORMS = ("BN", "SyncBN", "FrozenBN")


def set_backbone_norm(encoder: nn.Module, kind: str) -> nn.Module:
    """Set the encoder's BatchNorm: "BN" per process, "SyncBN" over processes, "FrozenBN" fixed.

    Raises ValueError for another `kind`.
    """
    if kind not in BACKBONE_NORMS:
        raise ValueError(f"backbone_norm must be one of {BACKBONE_NORMS}, got {kind!r}")
    if kind == "FrozenBN":
        return freeze_batch_norm_2d(encoder)
    if kind == "SyncBN" and comm.get_world_size() > 1:
        return synchronised(encoder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return encoder


def has_frozen_norm(module: nn.Module) -> bool:
    """Return whether any BatchNorm is fixed to the statistics it holds."""
    return any(type(m).__name__.startswith("FrozenBatchNorm") for m in module.modules())


def precise_bn(model: nn.Module, batches: Iterable[Any], count: int) -> None:
    """Set running statistics to their true averages over `count` batches (fvcore's PreciseBN)."""
    if not get_bn_modules(model):
        return
    with torch.no_grad():
        update_bn_stats(model, itertools.islice(batches, count), count)
