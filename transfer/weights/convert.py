"""A weights file of any known layout -> timm names, its identity, and what was left out."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pretrain
from pretrain.files.encoder_file import READABLE_FORMATS, EncoderIdentity
from pretrain.files.lineage import Lineage, method_of
from pretrain.files.read import WeightsError, read_metadata, safe_read, sha256_of
from transfer.features.timm_features import build_encoder
from transfer.weights.architecture import infer_architecture
from transfer.weights.lineage import told_stages
from transfer.weights.releases import located, release_of
from transfer.weights.sources import (
    beit,
    convnext,
    openmmlab,
    resnet,
    spark,
    timm_names,
    vit,
    vitdet,
)
from transfer.weights.sources import detectron2 as d2
from transfer.weights.sources.base import FINAL_NORM, Raw, Renamed, Source
from transfer.weights.unwrap import unwrap

SOURCES: tuple[Source, ...] = (  # in the order they are tried
    d2.DETECTRON2,
    vitdet.VITDET,
    openmmlab.OPENMMLAB,
    vit.MOCOV3,
    resnet.MOCOV3,
    convnext.FCMAE,
    convnext.CONVNEXT,
    spark.SPARK,
    beit.BEITV2,
    beit.BEIT,
    vit.DINOV2,
    resnet.DINO,
    resnet.SUPERVISED,
    vit.DINO,
    vit.MAE,
    vit.DEIT,
    vit.SUPERVISED,
    timm_names.TIMM,
)
NAMES = ("encoder", *(source.name for source in SOURCES))


@dataclass(frozen=True)
class Weights:
    """An encoder in timm's names."""

    file: str
    tensors: dict[str, Tensor]
    identity: EncoderIdentity
    sha256: str
    source: str  # the layout it was recognised as
    reason: str = ""  # by what
    origin: dict[str, str] = field(default_factory=dict)  # timm name -> the file's
    unused: dict[str, str] = field(default_factory=dict)  # the file's name -> why it is left out


def read_weights(
    path: str | Path,
    source: str | None = None,
    *,
    arch: str | None = None,
    arch_args: dict[str, Any] | None = None,
    stages: Lineage | None = None,
    part: str | None = None,
) -> Weights:
    """Read a file of any known layout; `source` and `arch` override what would be recognised.

    `path` may be a name of configs/weights.json, whose file is fetched if it is not here. arch_args
    alone are added to what the tensors tell ({"num_heads": 3}). `stages` is how the weights were
    trained; for an encoder file, instead of what its header says. `part` names the entry that holds
    them, where it is not the first known one.

    Raises FileNotFoundError, or WeightsError where the file is broken or unsafe, its layout is not
    recognised, or a tensor is missing, unknown or of another shape than its architecture's.
    """
    path = located(path)
    if source is not None and source not in NAMES:
        raise WeightsError(f"unknown source {source!r}: choose one of {', '.join(NAMES)}")
    metadata = read_metadata(path)
    if source == "encoder" or (source is None and metadata.get("format") in READABLE_FORMATS):
        weights = _encoder_file(path, metadata, stages)
        if arch is not None and arch != weights.identity.arch:
            raise WeightsError(f"{path} says that its arch is {weights.identity.arch}, not {arch}")
        return weights
    raw = unwrap(safe_read(path), str(path), part)
    chosen, reason = recognise(raw, source)
    try:
        renamed = chosen.convert(raw)
        found = (
            (arch, arch_args or {})
            if arch
            else infer_architecture(renamed.tensors, chosen.name, raw.file, arch_args)
        )
    except WeightsError:
        raise
    except Exception as error:  # a layout that only looked like this source's
        raise WeightsError(f"{path}: cannot be read as {chosen.name} ({error!r})") from error
    arch, arch_args = found
    tensors = _settle(renamed, arch, arch_args, chosen, str(path))
    sha256 = sha256_of(path)
    told = told_stages(raw, chosen.name, chosen.method, stages, release_of(path, sha256))
    identity = _identity(arch, arch_args, chosen, path, told)
    unused = {**renamed.unused, **dict.fromkeys(raw.not_tensors, "no tensor")}
    origin = {name: renamed.origin[name] for name in tensors}
    return Weights(str(path), tensors, identity, sha256, chosen.name, reason, origin, unused)


def recognise(raw: Raw, source: str | None = None) -> tuple[Source, str]:
    """Return the first source that knows these keys, and how it recognised them.

    Raises WeightsError for an unknown layout if no `source` is given.
    """
    if source is not None:
        return next(s for s in SOURCES if s.name == source), "given with --source"
    for candidate in SOURCES:
        reason = candidate.recognise(raw)
        if reason:
            return candidate, reason
    if any(name.startswith("roi_heads.") for name in raw.tensors):
        raise WeightsError(
            f"{raw.file}: a whole detector, as tools/train_net.py writes it, and no encoder: give "
            "the encoder file that it was trained from"
        )
    raise WeightsError(
        f"{raw.file}: its layout is not known (first keys: {', '.join(list(raw.tensors)[:6])}); "
        "let tools/convert_weights.py make an encoder file of it: say which layout it is with "
        f"--source, one of {', '.join(NAMES)}, and for a timm state dict give --arch as well"
    )


def _encoder_file(path: Path, metadata: dict[str, str], stages: Lineage | None) -> Weights:
    try:
        identity = EncoderIdentity.from_metadata(metadata, str(path))
        if stages:
            identity = replace(identity, stages=stages, method=method_of(stages))
        if not all(math.isfinite(m) for m in identity.pixel_mean) or min(identity.pixel_std) <= 0:
            raise ValueError(f"pixel_mean {identity.pixel_mean}, pixel_std {identity.pixel_std}")
        with torch.device("meta"):
            build_encoder(identity.arch, identity.arch_args)
    except (TypeError, ValueError) as error:
        told = str(error).removeprefix(f"{path}: ")
        raise WeightsError(f"{path}: its header cannot be used: {told}") from error
    tensors = safe_read(path)
    return Weights(
        file=str(path),
        tensors=tensors,
        identity=identity,
        sha256=sha256_of(path),
        source="encoder",
        reason=f"its header says {metadata['format']}",
        origin={name: name for name in tensors},
    )


def _identity(
    arch: str, arch_args: dict[str, Any], source: Source, path: Path, told: tuple[Lineage, str]
) -> EncoderIdentity:
    with torch.device("meta"):
        encoder = build_encoder(arch, arch_args)
    stages, who = told
    size = arch_args.get("img_size") or encoder.pretrained_cfg["input_size"][-1]
    return EncoderIdentity(
        arch=arch,
        arch_args=arch_args,
        method=method_of(stages),
        stages=stages,
        input_size=int(size),
        pixel_mean=source.pixel_mean,
        pixel_std=source.pixel_std,
        color_order="RGB",
        steps=0,
        recipe={},
        suite_version=pretrain.__version__,
        commit="unknown",
        extra={
            "source": source.name,
            "source_file": path.name,
            "steps": "unknown",
            "stages_told_by": who,
            **({"other_pixels": source.other_pixels} if source.other_pixels else {}),
        },
    )


def _settle(
    renamed: Renamed, arch: str, arch_args: dict[str, Any], source: Source, file: str
) -> dict[str, Tensor]:
    """Return the tensors of the architecture, checked against timm's names and shapes."""
    with torch.device("meta"):
        target = build_encoder(arch, arch_args).state_dict()
    given = {n: _pointwise(t, target.get(n)) for n, t in renamed.tensors.items()}
    missing = [
        n
        for n in target
        if n not in given and not FINAL_NORM.match(n) and not n.endswith("num_batches_tracked")
    ]
    unknown = [n for n in given if n not in target and not FINAL_NORM.match(n)]
    shapes = [
        f"{renamed.origin.get(n, n)} {tuple(given[n].shape)} for timm's {n} "
        f"{tuple(target[n].shape)}"
        for n in given
        if n in target and given[n].shape != target[n].shape
    ]
    problems = [
        f"{title} ({len(names)}): {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        for title, names in (
            ("missing", missing),
            ("unknown", [renamed.origin.get(n, n) for n in unknown]),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"{file}: read as {source.name}, it does not fit {arch} {arch_args or ''}: "
            f"{'; '.join(problems)}. Say what it is with --source and --arch, or remove what is no "
            "part of the encoder from the file"
        )
    for name in [n for n in given if n not in target]:
        renamed.unused[renamed.origin.get(name, name)] = "final norm that timm's net has not"
    return {n: given[n] for n in target if n in given}


def _pointwise(tensor: Tensor, target: Tensor | None) -> Tensor:
    """Convert a linear weight to a 1x1 convolution's or back; timm uses both for one layer."""
    if target is None or {tensor.ndim, target.ndim} != {2, 4} or target.numel() != tensor.numel():
        return tensor
    return tensor.reshape(target.shape) if tensor.shape[:2] == target.shape[:2] else tensor
