"""The encoder file: a pretrained encoder and its identity, in one .safetensors.

The tensors carry timm's names; the header's metadata is the identity. Decoder, mask token and
optimizer live in the training state beside it, never in it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from pretrain.files.lineage import (
    METHOD_NAME,
    Lineage,
    method_of,
    read_stages,
    stages_of_method,
    write_stages,
)
from pretrain.files.read import read_metadata, safe_read
from pretrain.files.write import atomic_write, write_safetensors

ENCODER_FORMAT = "mim-transfer-encoder/2"
FIRST_FORMAT = "mim-transfer-encoder/1"  # without stages: they are those that the method tells
READABLE_FORMATS = (ENCODER_FORMAT, FIRST_FORMAT)


@dataclass(frozen=True)
class EncoderIdentity:
    """What an encoder file says about itself.

    `timm.create_model(arch, pretrained=False, num_classes=0, **arch_args)` builds the encoder;
    `pixel_mean` and `pixel_std` are in [0, 1] units, in `color_order`.
    """

    arch: str
    arch_args: dict[str, Any]
    method: str  # of all stages: "spark", "fcmae+supervised", ...
    input_size: int  # pixels along a side
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    color_order: str  # "RGB" or "BGR"
    steps: int  # optimizer steps trained
    recipe: dict[str, Any]  # every setting of the pretraining run
    suite_version: str
    commit: str
    extra: dict[str, Any] = field(default_factory=dict)  # e.g. the source file's sha256
    stages: Lineage = ()  # every training so far; () stands for what the method tells

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not METHOD_NAME.fullmatch(self.method):
            raise ValueError(
                f"method must be a short name of a-z, 0-9, '_', '.', '+' and '-', "
                f"got {self.method!r}"
            )
        for name in ("arch", "suite_version", "commit"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be text, got {getattr(self, name)!r}")
        for name in ("arch_args", "recipe", "extra"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be a table, got {getattr(self, name)!r}")
        for name, least in (("input_size", 1), ("steps", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number from {least} on, got {value!r}")
        if self.color_order not in ("RGB", "BGR"):
            raise ValueError(f"color_order must be RGB or BGR, got {self.color_order!r}")
        self._require_pixels()
        if not self.stages:
            steps = self.steps if isinstance(self.steps, int) and self.steps > 0 else None
            object.__setattr__(self, "stages", stages_of_method(self.method, steps=steps))
        if method_of(self.stages) != self.method:
            raise ValueError(
                f"method {self.method!r} is not that of the stages, {method_of(self.stages)!r}"
            )

    def _require_pixels(self) -> None:
        for name, least in (("pixel_mean", 0.0), ("pixel_std", 1e-6)):
            values = getattr(self, name)
            if len(values) != 3 or not all(
                isinstance(v, int | float) and least <= v <= 1 for v in values
            ):
                raise ValueError(
                    f"{name} must be three numbers from {least:g} to 1, got {values}: divide "
                    "values of 0 to 255 by 255"
                )

    def to_metadata(self) -> dict[str, str]:
        """Return the safetensors header: every field as JSON text, and the format's name."""
        values = {**asdict(self), "stages": write_stages(self.stages)}
        return {"format": ENCODER_FORMAT, **{k: json.dumps(v) for k, v in values.items()}}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None, source: str) -> "EncoderIdentity":
        """Return the identity in the header of `source`.

        Raises ValueError, with what is wrong, for a header that is not an encoder file's.
        """
        if not metadata or metadata.get("format") not in READABLE_FORMATS:
            found = (metadata or {}).get("format", "no format")
            raise ValueError(
                f"{source}: not an encoder file (its header says {found!r}, expected "
                f"{ENCODER_FORMAT!r}); convert it with tools/convert_weights.py"
            )
        names = [f.name for f in fields(cls)]
        optional = ("extra", "stages") if metadata["format"] == FIRST_FORMAT else ("extra",)
        missing = [n for n in names if n not in metadata and n not in optional]
        if missing:
            raise ValueError(f"{source}: the encoder file's header lacks {', '.join(missing)}")
        try:
            values = {n: json.loads(metadata[n]) for n in names if n in metadata}
            for name in ("pixel_mean", "pixel_std"):
                values[name] = tuple(values[name])
            values["stages"] = read_stages(values.get("stages", ()))
            return cls(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{source}: the encoder file's header is wrong: {error}") from error


def write_encoder(
    path: Path, tensors: Mapping[str, torch.Tensor], identity: EncoderIdentity
) -> None:
    """Write the encoder file atomically; equal content gives equal bytes."""
    atomic_write(path, lambda p: write_safetensors(p, tensors, identity.to_metadata()))


def first_not_finite(tensors: Mapping[str, Any]) -> str | None:
    """Return the name of the first tensor with NaN or infinity; None if all are finite."""
    floating = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }
    if not floating:
        return None
    finite = torch.stack([tensor.isfinite().all() for tensor in floating.values()]).tolist()
    return next((name for name, good in zip(floating, finite, strict=True) if not good), None)


def read_identity(path: Path) -> EncoderIdentity:
    """Return the identity in the header of `path`, without reading its tensors.

    Raises FileNotFoundError, or ValueError for a broken file or one that is not an encoder file.
    """
    return EncoderIdentity.from_metadata(read_metadata(path), str(path))


def read_encoder(path: Path) -> tuple[dict[str, torch.Tensor], EncoderIdentity]:
    """Return all tensors of an encoder file, by timm name, and its identity; raises likewise."""
    identity = read_identity(path)
    return safe_read(path), identity
