"""The two files of a run: the encoder file, which transfer reads, and the training state.

Encoder file: a pretrained encoder and its identity, in one .safetensors. The tensors carry timm's
names; the header's metadata is the identity. Decoder, mask token and optimizer live in the
training state beside it, never in it. Training state: tensors and plain containers only.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pretrain.files.lineage import (
    METHOD_NAME,
    Lineage,
    method_of,
    read_stages,
    stages_of_method,
    write_stages,
)
from pretrain.files.write import atomic_write

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
        if self.color_order not in ("RGB", "BGR"):
            raise ValueError(f"color_order must be RGB or BGR, got {self.color_order!r}")
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3:
            raise ValueError("pixel_mean and pixel_std need three values each")
        if not self.stages:
            steps = self.steps if isinstance(self.steps, int) and self.steps > 0 else None
            object.__setattr__(self, "stages", stages_of_method(self.method, steps=steps))
        if method_of(self.stages) != self.method:
            raise ValueError(
                f"method {self.method!r} is not that of the stages, {method_of(self.stages)!r}"
            )

    def to_metadata(self) -> dict[str, str]:
        """Return the safetensors header: every field as JSON text, and the format's name."""
        values = {**asdict(self), "stages": write_stages(self.stages)}
        return {"format": ENCODER_FORMAT, **{k: json.dumps(v) for k, v in values.items()}}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None, source: str) -> "EncoderIdentity":
        """Read the header of `source`; ValueError names what is missing or not allowed."""
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
        values = {n: json.loads(metadata[n]) for n in names if n in metadata}
        for name in ("pixel_mean", "pixel_std"):
            values[name] = tuple(values[name])
        try:
            values["stages"] = read_stages(values.get("stages", ()))
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


def write_encoder(
    path: Path, tensors: Mapping[str, torch.Tensor], identity: EncoderIdentity
) -> None:
    """Write the encoder file atomically; equal content gives equal bytes."""
    write_safetensors(path, tensors, identity.to_metadata())


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata atomically; equal content gives equal bytes.

    safetensors orders the tensors, but writes the metadata in an order drawn anew by each process.
    So it writes the tensors alone, and their header is extended here: 8 bytes with the header's
    length (little-endian), the header (JSON, padded with spaces to a multiple of 8), the data.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    data = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:data])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.write(memoryview(content)[data:])

    atomic_write(path, write)


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
    """The identity in the header of `path`, without reading its tensors."""
    return _open(path, lambda handle: EncoderIdentity.from_metadata(handle.metadata(), str(path)))


def read_encoder(path: Path) -> tuple[dict[str, torch.Tensor], EncoderIdentity]:
    """All tensors of an encoder file, by timm name, and its identity."""

    def read(handle: Any) -> tuple[dict[str, torch.Tensor], EncoderIdentity]:
        identity = EncoderIdentity.from_metadata(handle.metadata(), str(path))
        return {name: handle.get_tensor(name) for name in handle.keys()}, identity  # noqa: SIM118

    return _open(path, read)


def _open(path: Path, read: Callable[[Any], Any]) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no encoder file at {path}")
    try:
        with safe_open(str(path), framework="pt") as handle:
            return read(handle)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a readable safetensors file ({error}); it may be truncated: "
            "copy or train it again"
        ) from error
