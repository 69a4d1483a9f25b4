"""A trained classifier on disk: tensors and what its record says, in one .safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pretrain.files.read import read_metadata, safe_read
from pretrain.files.write import atomic_write, write_safetensors
from transfer.classification.prepare import Run
from transfer.classification.protocol import pixels_to_json, protocols
from transfer.results.protocol import protocol_hash
from transfer.results.record import Training
from transfer.weights import PixelStats

NAME = "classifier.safetensors"
FORMAT = "mim-transfer-classifier/1"


@dataclass(frozen=True)
class Trained:
    """A trained classifier: tensors by name, and what is needed to build and to describe it."""

    tensors: dict[str, Tensor]
    training: Training
    arch: str
    arch_args: dict[str, Any]
    pixels: PixelStats
    eval_hash: str  # of the run's own evaluation

    @property
    def classes(self) -> list[str]:
        """Return the classes, in the order of the outputs."""
        return self.training.dataset.classes


def write_trained(path: Path, run: Run, model: nn.Module, training: Training) -> None:
    """Write the classifier of a finished run atomically."""
    about = {
        "training": training.model_dump(mode="json"),
        "arch": run.built.model.arch,
        "arch_args": run.built.model.arch_args,
        "pixels": pixels_to_json(run.built.pixels),
        "eval_hash": protocol_hash(protocols(run).eval),
    }
    header = {"format": FORMAT, "about": json.dumps(about)}
    atomic_write(path, lambda p: write_safetensors(p, model.state_dict(), header))


def read_trained(path: Path) -> Trained:
    """Read a classifier that `write_trained` wrote.

    Raises FileNotFoundError, or ValueError for another file.
    """
    header = read_metadata(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is not a classifier of this suite (no {FORMAT!r} in its header)")
    about = json.loads(header["about"])
    pixels = about["pixels"]
    return Trained(
        safe_read(path),
        Training.model_validate_json(json.dumps(about["training"])),
        about["arch"],
        about["arch_args"],
        PixelStats(tuple(pixels["mean"]), tuple(pixels["std"]), pixels["color_order"]),
        about["eval_hash"],
    )
