"""A config -> a detector with its weights, and the optimizer that trains it."""

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from omegaconf import DictConfig, OmegaConf
from torch import nn

from transfer.detection.config import ConfigError
from transfer.detection.optimizer import parameter_groups
from transfer.features import TimmFeatures
from transfer.weights import LoadReport, PixelStats, features_for


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
    settings.setdefault("pyramid_channels", config.model.channels)
    features, report, own_pixels = features_for(
        config.weights,
        config.arch,
        plain(config.arch_args) or None,
        fresh=tuple(config.fresh),
        unused=tuple(config.unused),
        freeze=config.freeze,
        **settings,
    )
    pixels = pixels or own_pixels
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
    return Detector(model, features, report, pixels, _notes(kwargs))


def build_optimizer(config: DictConfig, model: nn.Module, arch: str) -> torch.optim.Optimizer:
    """The config's optimizer over groups with layer-wise learning rates."""
    kwargs = plain(config.optimizer)
    build = kwargs.pop("_target_")
    decay = config.decay
    groups = parameter_groups(
        model,
        arch=arch,
        lr=kwargs["lr"],
        weight_decay=kwargs["weight_decay"],
        layer_decay=decay.layers,
        rule=decay.rule,
        no_weight_decay=decay.no_weight_decay,
    )
    if not groups:
        raise ConfigError("nothing is left to train")
    return build(groups, **kwargs)


def plain(node: Any) -> Any:
    """A config node as Python dicts and lists; classes stay what they are."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _notes(kwargs: dict[str, Any]) -> tuple[str, ...]:
    from transfer.detection.model import norm

    asked = {kwargs.get("fpn_norm", ""), kwargs.get("head_norm", "")}
    if "SyncBN" in asked and norm("SyncBN") == "BN":
        return ("SyncBN ran as BatchNorm: one device, or no GPU",)
    return ()
