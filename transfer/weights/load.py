"""Weights -> TimmFeatures: every tensor accounted for, or one error that lists what is not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import torch
from timm.layers import resample_patch_embed
from torch import Tensor

from pretrain.files.lineage import write_stages
from pretrain.files.read import WeightsError
from transfer.features import TimmFeatures
from transfer.features.position import (
    resize_position_embedding,
    resize_relative_position,
    square_window,
)
from transfer.weights.controls import (
    RANDOM_ENCODER,
    file_of,
    is_control,
    measure_batch_norms,
    random_identity,
    sha256_of_weights,
    shuffled,
)
from transfer.weights.convert import Weights, read_weights
from transfer.weights.identity import IMAGENET, PixelStats, require_same_architecture
from transfer.weights.lineage import require_known

# classifiers and the norm before them: dense tasks read the maps before it
ALWAYS_UNUSED = ("head.*", "head_dist.*", "fc.*", "norm.*", "fc_norm.*", "attn_pool.*")
ALWAYS_FRESH = ("*.num_batches_tracked",)  # a counter that some formats leave out
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
TABLE = "relative_position_bias_table"


class Target(Protocol):
    """What weights are loaded into: a timm encoder and what is known of it; see TimmFeatures."""

    arch: str
    arch_args: dict[str, Any]
    encoder: Any
    plain: bool
    removed: frozenset[str]
    added: frozenset[str]

    @property
    def stored_grid(self) -> tuple[int, int]:
        """Return the patches (h, w) of a plain ViT's position parameters."""

    @property
    def has_relative_position(self) -> bool:
        """Return whether the blocks have relative position tables."""


@dataclass(frozen=True)
class LoadReport:
    """How each tensor was used (loaded, fresh, unused, resized). Stored in the record."""

    file: str
    sha256: str
    source: str
    loaded: int  # tensors of the encoder that came from the file
    fresh: list[str]
    unused: list[str]  # the file's names
    resized: list[str]  # "name: shape -> shape"
    identity: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    @property
    def pixels(self) -> str:
        """Return the pixel statistics, and others that a file of this layout may need."""
        mean, std, order = (self.identity[k] for k in ("pixel_mean", "pixel_std", "color_order"))
        other = self.identity["extra"].get("other_pixels", "")
        assumed = f", assumed: {other}" if other else ""
        return f"{order} with mean {list(mean)} and std {list(std)}{assumed}"

    def __str__(self) -> str:
        return (
            f"{self.file} ({self.source}): {self.loaded} tensors loaded, {len(self.fresh)} fresh, "
            f"{len(self.unused)} unused, {len(self.resized)} resized; pixels {self.pixels}"
        )


def features_for(
    weights: str | Path,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    fresh: Sequence[str] = (),
    unused: Sequence[str] = (),
    seed: int = 0,
    **options: Any,
) -> tuple[TimmFeatures, LoadReport | None, PixelStats]:
    """Build TimmFeatures(**options) with `weights`; return it, the report and the pixel stats.

    weights "none": from scratch, `arch` is required, no report, ImageNet's statistics. Otherwise
    arch and arch_args default to the file's. `seed` is that of a control (controls.py). Raises
    WeightsError if they name another network, ValueError for "none" without `arch`.
    """
    if str(weights) in ("none", RANDOM_ENCODER):
        return _from_scratch(str(weights), arch, arch_args, seed, options)
    loaded = read_weights(str(file_of(weights)), source)
    if is_control(weights):
        loaded = shuffled(loaded, str(weights), seed)
    own = loaded.identity
    if arch is not None:
        require_same_architecture(own, arch, arch_args, str(weights))
    if arch is None or not arch_args:
        arch, arch_args = own.arch, own.arch_args
    features = TimmFeatures(arch, arch_args, **options)
    report = load_encoder(features, loaded, fresh=fresh, unused=unused)
    if is_control(weights):
        measured = {*measure_batch_norms(features, seed)} - {*report.fresh}
        fresh = sorted({*report.fresh, *measured})
        report = replace(report, loaded=report.loaded - len(measured), fresh=fresh)
    require_known(own.stages, str(weights))
    return features, report, PixelStats.of(own)


def _from_scratch(
    weights: str,
    arch: str | None,
    arch_args: Mapping[str, Any] | None,
    seed: int,
    options: Mapping[str, Any],
) -> tuple[TimmFeatures, LoadReport | None, PixelStats]:
    """Build TimmFeatures with random weights: no report, but for the control, which is frozen."""
    if arch is None:
        raise ValueError(f"weights={weights} needs arch: the timm name of the architecture")
    features = TimmFeatures(arch, arch_args, **options)
    if weights == "none":
        return features, None, IMAGENET
    if features.freeze != "backbone":
        raise WeightsError(
            f"weights={weights} is a frozen random encoder: set freeze=backbone, or weights=none "
            "to train from scratch"
        )
    measure_batch_norms(features, seed)
    identity = random_identity(features, seed)
    report = LoadReport(
        file=weights,
        sha256=sha256_of_weights(weights, seed),
        source="control",
        loaded=0,
        fresh=sorted(features.encoder.state_dict()),
        unused=[],
        resized=[],
        identity={**asdict(identity), "stages": write_stages(identity.stages)},
    )
    return features, report, PixelStats.of(identity)


def load_encoder(
    features: Target,
    weights: str | Path | Weights,
    *,
    fresh: Sequence[str] = (),
    unused: Sequence[str] = (),
) -> LoadReport:
    """Load into `features.encoder` in place.

    fresh    patterns (fnmatch) of encoder tensors that keep their initial values
    unused   patterns of the file's tensors that are left out
    Raises WeightsError with all missing, unknown and mis-shaped tensors, and unmatched patterns.
    """
    loaded = weights if isinstance(weights, Weights) else read_weights(weights)
    require_same_architecture(loaded.identity, features.arch, features.arch_args, loaded.file)
    target: dict[str, Tensor] = features.encoder.state_dict()
    resized: list[str] = []
    given = _fit(loaded.tensors, features, resized)

    left_out = _matches(given, unused)
    own_fresh = _matches(target, fresh)
    absent = [name for name in target if name not in given or name in left_out]
    added = [name for name in absent if name in features.added]
    kept = {*own_fresh, *added, *_matches(absent, ALWAYS_FRESH)}
    spare = [name for name in given if name not in target or name in kept or name in left_out]
    allowed = {*left_out, *kept, *features.removed, *_matches(spare, ALWAYS_UNUSED)}
    problems = [
        *_pattern_problems("fresh", fresh, target, "encoder tensor"),
        *_pattern_problems("unused", unused, given, "tensor of the file"),
        *_listed("missing from the file", [n for n in absent if n not in kept]),
        *_listed("left over", [n for n in spare if n not in allowed]),
        *_shape_problems(given, target, {*spare}),
    ]
    if problems:
        raise WeightsError(
            f"{loaded.file} ({loaded.source}) does not fit {features.arch}: {'; '.join(problems)}. "
            "Give the architecture the file was made for, or declare the exceptions "
            "(fresh=[...] for encoder tensors to initialise, unused=[...] for the file's)"
        )
    chosen = {n: t for n, t in given.items() if n in target and n not in spare}
    state = {n: chosen[n].to(t.dtype) if n in chosen else t for n, t in target.items()}
    features.encoder.load_state_dict(state, strict=True)
    return LoadReport(
        file=loaded.file,
        sha256=loaded.sha256,
        source=loaded.source,
        loaded=len(chosen),
        fresh=sorted(kept),
        unused=sorted({*spare, *loaded.unused}),
        resized=resized,
        identity={
            **asdict(loaded.identity),
            "stages": write_stages(loaded.identity.stages),
        },
    )


def _fit(tensors: Mapping[str, Tensor], features: Target, resized: list[str]) -> dict[str, Tensor]:
    """Convert the file's tensors for this network: one table per block, positions resized."""
    fitted = dict(tensors)
    if not features.plain:
        return fitted
    if features.has_relative_position and SHARED_TABLE in fitted:
        shared = fitted.pop(SHARED_TABLE)
        blocks = range(len(features.encoder.blocks))
        fitted |= {f"blocks.{i}.attn.{TABLE}": shared.clone() for i in blocks}
        resized.append(f"{SHARED_TABLE}: one shared table -> one a block ({len(blocks)})")
    target = features.encoder.state_dict()
    for name in [n for n in fitted if n in target and fitted[n].shape != target[n].shape]:
        new = _resize(name, fitted[name], target[name], features)
        if new is not None:
            resized.append(f"{name}: {tuple(fitted[name].shape)} -> {tuple(new.shape)}")
            fitted[name] = new
    return fitted


def _resize(name: str, old: Tensor, target: Tensor, features: Target) -> Tensor | None:
    """Resize a position parameter; None for another tensor, or if it cannot be resized."""
    grid = features.stored_grid
    if name.endswith(TABLE) and old.ndim == 2 and old.shape[1] == target.shape[1]:
        window = square_window(old.shape[0])
        return resize_relative_position(old, window, grid) if window else None
    if name == "pos_embed" and old.ndim == 3 and old.shape[2] == target.shape[2]:
        prefix = target.shape[1] - grid[0] * grid[1]
        side = round(max(old.shape[1] - prefix, 0) ** 0.5)
        if side and side * side == old.shape[1] - prefix:
            return resize_position_embedding(old, (side, side), grid, prefix)
    if name == "patch_embed.proj.weight" and old.ndim == 4 and old.shape[:2] == target.shape[:2]:
        return resample_patch_embed(old.float(), list(target.shape[2:]))
    return None


def _matches(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def _pattern_problems(
    kind: str, patterns: Sequence[str], names: Iterable[str], what: str
) -> list[str]:
    idle = [p for p in patterns if not _matches(names, [p])]
    return [f"{kind} pattern {p!r} matches no {what}" for p in idle]


def _listed(title: str, names: list[str]) -> list[str]:
    """Format "title (count): the names", at most twelve of them."""
    if not names:
        return []
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return [f"{title} ({len(names)}): {', '.join(names[:12])}{more}"]


def _shape_problems(
    given: Mapping[str, Tensor], target: Mapping[str, Tensor], skip: set[str]
) -> list[str]:
    shared = [n for n in given if n in target and n not in skip]
    wrong = [
        f"{n} is {tuple(given[n].shape)}, the encoder has {tuple(target[n].shape)}"
        for n in shared
        if given[n].shape != target[n].shape
    ]
    kinds = {
        n: f"{n} is {given[n].dtype}"
        for n in shared
        if target[n].is_floating_point() and given[n].dtype not in FLOATS
    }
    broken = [n for n in shared if n not in kinds and not torch.isfinite(given[n]).all()]
    return [
        *_listed("of another shape", wrong),
        *_listed("of another kind of number", list(kinds.values())),
        *_listed("with NaN or infinite values", broken),
    ]
