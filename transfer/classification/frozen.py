"""The features of a frozen encoder, computed once: one vector a layer and image."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.run.processes import data_workers
from transfer.classification.data import (
    EvaluationSamples,
    evaluation_loader,
    evaluation_transform,
)
from transfer.classification.probe_config import Probing
from transfer.datasets.class_split import ClassSplit
from transfer.features import TimmFeatures
from transfer.features.timm_features import is_plain_vit
from transfer.weights import LoadReport, PixelStats, features_for, read_weights

logger = logging.getLogger(__name__)

ALL = "all"  # every layer's vector, one behind the other


@dataclass(frozen=True)
class Frozen:
    """An encoder that is not trained, and what is known of its weights."""

    features: TimmFeatures
    report: LoadReport | None  # None for random weights
    pixels: PixelStats


def frozen_encoder(weights: str, config: Probing) -> Frozen:
    """Return the encoder of a weights file, or with "none" a random one of `config.arch`.

    Raises WeightsError or ValueError where they do not fit.
    """
    arch, arch_args = config.arch, config.arch_args
    if arch is None and weights != "none":
        own = read_weights(weights, config.weights_source).identity
        arch, arch_args = own.arch, own.arch_args
    stored = arch is not None and is_plain_vit(arch, arch_args)  # its positions have a size
    torch.manual_seed(config.seed)
    features, report, pixels = features_for(
        weights,
        config.arch,
        config.arch_args or None,
        source=config.weights_source,
        out_features=config.layers,
        norm_outputs=False,
        image_size=config.images.input_size if stored else None,
        freeze="backbone",
    )
    return Frozen(features.eval(), report, pixels)


@torch.no_grad()
def vectors(
    frozen: Frozen, split: ClassSplit, config: Probing, device: torch.device
) -> dict[str, Tensor]:
    """Return each layer's map averaged over the image, (n, C) float32 on the CPU, and all as one.

    Raises ValueError for an image that cannot be read.
    """
    samples = EvaluationSamples(split, evaluation_transform(config.images, frozen.pixels))
    workers = data_workers(config.workers, device)
    loader = evaluation_loader(
        samples, config.test_batch_size, 1, 0, workers, device.type == "cuda"
    )
    features = frozen.features.to(device)
    found: dict[str, list[Tensor]] = {layer: [] for layer in config.layers}
    for batch in loader:
        for layer, maps in features(batch.images.to(device, non_blocking=True)).items():
            found[layer].append(maps.float().mean(dim=(2, 3)).cpu())
    each = {layer: torch.cat(parts) for layer, parts in found.items()}
    return {**each, ALL: torch.cat(list(each.values()), dim=1)} if len(each) > 1 else each
