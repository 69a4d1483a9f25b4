"""A conversion proved: both sides built, the same random images in, the features compared.

In float64: deep nets of random weights blow rounding up, and a proof must not hang on that.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from transfer.features import TimmFeatures
from transfer.features.timm_features import build_encoder
from transfer.weights.convert import Weights
from transfer.weights.load import features_for, load_encoder
from transfer.weights.reference import convnext_maps, is_official_convnext
from transfer.weights.sources.base import FINAL_NORM
from transfer.weights.unwrap import unwrap

TOLERANCE = 1e-4  # of the largest value of each map


@dataclass(frozen=True)
class Proof:
    """One comparison, or why it could not be made."""

    what: str
    largest_difference: float | None = None  # relative to the largest value of the map
    not_possible: str | None = None

    @property
    def failed(self) -> bool:
        """Return whether the difference exceeds the tolerance, or is NaN."""
        return self.largest_difference is not None and not self.largest_difference <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Return the proof as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        if self.not_possible:
            return f"{self.what}: not possible, {self.not_possible}"
        return f"{self.what}: largest difference {self.largest_difference:.1e} of the largest value"


def random_images(weights: Weights, size: int | None = None) -> Tensor:
    """Draw (2, 3, size, size) float64, by default of the position parameters' size."""
    side = size or int(weights.identity.arch_args.get("img_size") or weights.identity.input_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64)


def dense_features(weights: Weights) -> TimmFeatures:
    """Build the converted encoder as for dense tasks, without norms or pyramid on top."""
    identity = weights.identity
    features = TimmFeatures(identity.arch, identity.arch_args, norm_outputs=False)
    load_encoder(features, weights)
    return features.eval().double()


@torch.no_grad()
def maps_of(features: TimmFeatures, images: Tensor) -> list[Tensor]:
    """Return the feature maps of images (B, 3, H, W), each (B, C, h, w)."""
    return list(features(images).values())


def compare(what: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Proof:
    """Return the largest difference over all maps; infinite if the shapes differ."""
    if [m.shape for m in ours] != [m.shape for m in theirs]:
        return Proof(what, float("inf"))
    differences = [
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()
        for a, b in zip(ours, theirs, strict=True)
    ]
    return Proof(what, max(differences))


def against_timm_net(weights: Weights, features: TimmFeatures, images: Tensor) -> Proof:
    """Compare with timm's own network and forward pass on the converted tensors."""
    what = f"features in timm's {weights.identity.arch}"
    net = build_encoder(weights.identity.arch, weights.identity.arch_args).eval()
    result = net.load_state_dict(weights.tensors, strict=False)
    lost = [n for n in result.missing_keys if not _harmless(n)] + result.unexpected_keys
    if lost:
        return Proof(what, float("inf"))
    return compare(what, maps_of(features, images), _timm_maps(net.double(), features, images))


def against_timm_loader(weights: Weights, features: TimmFeatures, images: Tensor) -> Proof:
    """Compare with timm's own conversion of the file, which is independent of ours."""
    what = "features after timm's own conversion of the file"
    net = build_encoder(weights.identity.arch, weights.identity.arch_args).eval()
    module = import_module(type(net).__module__)
    adapt = getattr(module, "checkpoint_filter_fn", None)
    try:
        content = safe_read(weights.file)
        state = adapt(content, net) if adapt else unwrap(content, weights.file).tensors
        state = {n: t for n, t in state.items() if isinstance(t, Tensor)}
        result = net.load_state_dict(state, strict=False)
    except Exception as error:  # timm's filters fail in many ways on layouts they do not know
        return Proof(what, not_possible=f"timm does not read this layout ({type(error).__name__})")
    lost = [n for n in result.missing_keys if not _harmless(n)]
    if lost:
        return Proof(what, not_possible=f"timm does not read this layout ({len(lost)} left empty)")
    return compare(what, maps_of(features, images), _timm_maps(net.double(), features, images))


def against_official_names(weights: Weights, features: TimmFeatures, images: Tensor) -> Proof:
    """Compare with ConvNeXt computed from the file's own names, unconverted."""
    what = "features computed from the file's own names"
    try:
        tensors = unwrap(safe_read(weights.file), weights.file).tensors
        if not is_official_convnext(tensors):
            return Proof(what, not_possible="there is a second way for ConvNeXt only")
        maps = convnext_maps({n: t.double() for n, t in tensors.items()}, images)
    except (WeightsError, StopIteration, KeyError) as error:
        return Proof(what, not_possible=f"it cannot be computed ({type(error).__name__})")
    return compare(what, maps_of(features, images), maps)


def against_written(weights: Weights, written: Path, images: Tensor) -> Proof:
    """Compare with the written encoder file, read back as a run reads it."""
    again, _, _ = features_for(written, norm_outputs=False)
    what = "features of the written file read back"
    return compare(
        what, maps_of(again.eval().double(), images), maps_of(dense_features(weights), images)
    )


@torch.no_grad()
def _timm_maps(net: Any, features: TimmFeatures, images: Tensor) -> list[Tensor]:
    maps = net.forward_intermediates(images, intermediates_only=True)
    return [maps[i] for i in features.taken]


def _harmless(name: str) -> bool:
    return bool(FINAL_NORM.match(name)) or name.endswith("num_batches_tracked")


def require_proved(proofs: Sequence[Proof], file: str) -> None:
    """Raise WeightsError with the first comparison that failed."""
    for proof in proofs:
        if proof.failed:
            raise WeightsError(
                f"{file}: the converted encoder does not compute what the source does ({proof}); "
                "nothing was kept. Say what the file is with --source and --arch"
            )
