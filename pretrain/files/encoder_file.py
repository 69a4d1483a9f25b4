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
from safetensors.torch import save_file

from pretrain.files.write import atomic_write

ENCODER_FORMAT = "mim-transfer-encoder/1"


@dataclass(frozen=True)
class EncoderIdentity:
    """What an encoder file says about itself.

    `timm.create_model(arch, pretrained=False, num_classes=0, **arch_args)` builds the encoder;
    `pixel_mean` and `pixel_std` are in [0, 1] units, in `color_order`.
    """

    arch: str
    arch_args: dict[str, Any]
    method: str
    input_size: int  # pixels along a side
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    color_order: str  # "RGB" or "BGR"
    steps: int  # optimizer steps trained
    recipe: dict[str, Any]  # every setting of the pretraining run
    suite_version: str
    commit: str
    extra: dict[str, Any] = field(default_factory=dict)  # e.g. the source file's sha256

    def __post_init__(self) -> None:
        if self.color_order not in ("RGB", "BGR"):
            raise ValueError(f"color_order must be RGB or BGR, got {self.color_order!r}")
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3:
            raise ValueError("pixel_mean and pixel_std need three values each")

    def to_metadata(self) -> dict[str, str]:
        """The safetensors header: every field as JSON text, and the format's name."""
        return {"format": ENCODER_FORMAT, **{k: json.dumps(v) for k, v in asdict(self).items()}}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None, source: str) -> "EncoderIdentity":
        """Read the header of `source`; ValueError names what is missing."""
        if not metadata or metadata.get("format") != ENCODER_FORMAT:
            found = (metadata or {}).get("format", "no format")
            raise ValueError(
                f"{source}: not an encoder file (its header says {found!r}, expected "
                f"{ENCODER_FORMAT!r}); convert it with tools/convert_weights.py"
            )
        names = [f.name for f in fields(cls)]
        missing = [n for n in names if n not in metadata and n != "extra"]
        if missing:
            raise ValueError(f"{source}: the encoder file's header lacks {', '.join(missing)}")
        values = {n: json.loads(metadata[n]) for n in names if n in metadata}
        for name in ("pixel_mean", "pixel_std"):
            values[name] = tuple(values[name])
        return cls(**values)


def write_encoder(
    path: Path, tensors: Mapping[str, torch.Tensor], identity: EncoderIdentity
) -> None:
    """Write the encoder file atomically; tensors go to the CPU, contiguous, in name order."""
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    atomic_write(path, lambda p: save_file(plain, str(p), metadata=identity.to_metadata()))


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
