"""A weights file -> timm names, its identity, and what was left out."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pretrain.checkpoint import ENCODER_FORMAT, EncoderIdentity
from transfer.weights.reader import WeightsError, read_metadata, safe_read, sha256_of


@dataclass(frozen=True)
class Weights:
    """An encoder in timm's names."""

    file: str
    tensors: dict[str, Tensor]
    identity: EncoderIdentity
    sha256: str
    source: str  # the layout it was recognised as
    reason: str = ""  # by what
    unused: dict[str, str] = field(default_factory=dict)  # the file's name -> why it is left out


def read_weights(path: str | Path, source: str | None = None) -> Weights:
    """Read a file of any known layout; `source` overrides the recognition.

    Raises FileNotFoundError, or WeightsError where the file is broken, unsafe, or not understood.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if source not in (None, "encoder"):
        raise WeightsError(f"{path}: no source {source!r}")
    if metadata.get("format") != ENCODER_FORMAT:
        raise WeightsError(f"{path}: not an encoder file")
    try:
        identity = EncoderIdentity.from_metadata(metadata, str(path))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its identity cannot be read: {error}") from error
    return Weights(
        file=str(path),
        tensors=safe_read(path),
        identity=identity,
        sha256=sha256_of(path),
        source="encoder",
        reason=f"its header says {ENCODER_FORMAT}",
    )
