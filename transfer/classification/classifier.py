"""A timm network with a fresh classifier, its encoder loaded strictly from a weights file."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from transfer.classification.config import ConfigError, FineTuning
from transfer.features import plain_vit
from transfer.features.timm_features import build_encoder, dense_arch_args
from transfer.weights import IMAGENET, LoadReport, PixelStats, Weights, load_encoder, read_weights
from transfer.weights.identity import require_same_architecture
from transfer.weights.lineage import require_known
from transfer.weights.sources.base import FINAL_NORM

logger = logging.getLogger(__name__)

HEADS = ("head.fc", "head", "fc")  # timm's names of a classifier's last layer


class Classifier(nn.Module):
    """Images (B, 3, s, s) -> logits (B, classes); `encoder` is timm's whole network.

    Its attributes but `head` are those that weights are loaded by. Raises ValueError for arguments
    that the architecture does not take.
    """

    def __init__(
        self, arch: str, arch_args: Mapping[str, Any] | None, classes: int, config: FineTuning
    ) -> None:
        super().__init__()
        self.arch, self.arch_args = arch, dense_arch_args(arch_args)
        with torch.device("meta"):
            kind = type(build_encoder(arch, self.arch_args))
        if issubclass(kind, plain_vit.PLAIN_VITS):
            self.arch_args["img_size"] = config.images.input_size
        if issubclass(kind, VisionTransformer):
            self.arch_args["global_pool"] = "avg" if config.pool == "mean" else "token"
        drop = {"drop_path_rate": config.drop_path_rate} if config.drop_path_rate else {}
        self.encoder: Any = build_encoder(arch, self.arch_args, **drop)
        self.encoder.reset_classifier(classes)
        self.plain = isinstance(self.encoder, plain_vit.PLAIN_VITS)
        self.removed: frozenset[str] = frozenset()
        self.added: frozenset[str] = frozenset()
        self.head = head_of(self.encoder)
        if config.head_std is not None:
            layer = cast("nn.Linear", self.encoder.get_submodule(self.head))
            nn.init.trunc_normal_(layer.weight, std=config.head_std)
            nn.init.zeros_(layer.bias)
        if config.run.grad_checkpointing:
            self.encoder.set_grad_checkpointing(True)

    @property
    def stored_grid(self) -> tuple[int, int]:
        """Patches (h, w) at which a plain ViT's position parameters are stored."""
        return plain_vit.stored_grid(self.encoder)

    @property
    def has_relative_position(self) -> bool:
        """Return whether the blocks have relative position tables, as in BEiT."""
        return plain_vit.has_relative_position(self.encoder)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, s, s) to (B, classes), float32 under autocast as well."""
        return self.encoder(images).float()

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the tensors of the encoder file: all but the classifier."""
        state = self.encoder.state_dict()
        return {name: t for name, t in state.items() if not name.startswith(f"{self.head}.")}


@dataclass(frozen=True)
class Built:
    """A classifier, and what is known of its weights."""

    model: Classifier
    report: LoadReport | None  # None for scratch
    pixels: PixelStats
    recipe: Mapping[str, Any]  # of the weights' pretraining


def build_classifier(config: FineTuning, classes: int) -> Built:
    """Build the network of a config and load its encoder, strictly, on the CPU.

    The fresh parts are drawn from the seed, equal for equal architectures. Raises ConfigError
    without weights or architecture, WeightsError where they do not fit.
    """
    if not config.weights:
        raise ConfigError("weights is not set: give weights=FILE, or weights=none and arch=NAME")
    if config.weights == "none":
        if config.arch is None:
            raise ConfigError("weights=none needs arch: the timm name of the architecture")
        torch.manual_seed(config.seed)
        model = Classifier(config.arch, config.arch_args, classes, config)
        return Built(model, None, IMAGENET, {})
    weights = read_weights(config.weights, config.weights_source)
    own, (arch, arch_args) = weights.identity, _architecture(config, weights)
    torch.manual_seed(config.seed)
    model = Classifier(arch, arch_args, classes, config)
    report = load_encoder(
        model, weights, fresh=_fresh(model, weights, config), unused=config.unused
    )
    require_known(own.stages, config.weights)
    if own.extra.get("other_pixels"):
        logger.warning("%s: pixels %s", report.file, report.pixels)
    return Built(model, report, PixelStats.of(own), own.recipe)


def head_of(encoder: nn.Module) -> str:
    """Return the name of the classifier's last layer.

    Raises ValueError for a network that has none by a known name.
    """
    for name in HEADS:
        try:
            layer = encoder.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(layer, nn.Linear):
            return name
    raise ValueError(f"{type(encoder).__name__} has no classifier named {', '.join(HEADS)}")


def _architecture(config: FineTuning, weights: Weights) -> tuple[str, dict[str, Any]]:
    """Return the weights' architecture. Raises WeightsError if the config asks for another."""
    own = weights.identity
    if config.arch is not None:
        require_same_architecture(own, config.arch, config.arch_args, config.weights)
    if config.arch is None or not config.arch_args:
        return own.arch, own.arch_args
    return config.arch, config.arch_args


def _fresh(model: Classifier, weights: Weights, config: FineTuning) -> list[str]:
    """Return the tensors to initialise: the classifier, and a last norm that the file lacks."""
    names = model.encoder.state_dict()
    head = [name for name in names if name.startswith(f"{model.head}.")]
    norm = [name for name in names if FINAL_NORM.match(name) and name not in weights.tensors]
    return [*config.fresh, *head, *norm]
