"""Encoders by name, [LABEL=]WHAT.

WHAT is one of

FILE                      weights of any layout that the project reads
control:shuffled:FILE     its values permuted within each tensor
random:FILE               random weights in the architecture of FILE
RUN                       the folder of a detection or segmentation run: its trained encoder
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from transfer.features import TimmFeatures
from transfer.weights import PixelStats, features_for, read_weights

RANDOM = "random:"
INSIDE = "features.encoder."  # of a detector or segmentor
RUN, TRAINED = "run.json", ("model_final.pth", "state.pt")


@dataclass(frozen=True)
class Analysed:
    """An encoder in evaluation mode, with its pixels, under the name it has in figures."""

    label: str
    features: TimmFeatures
    pixels: PixelStats
    input_size: int  # pixels along a side of the images it was trained on


def open_encoder(text: str, seed: int = 0) -> Analysed:
    """Return the encoder that `text` names. Raises WeightsError or FileNotFoundError."""
    label, what = _label(text)
    if what.startswith(RANDOM):
        own = read_weights(what.removeprefix(RANDOM)).identity
        torch.manual_seed(seed)
        features, _, _ = features_for("none", own.arch, own.arch_args)
        return Analysed(label, features.eval(), PixelStats.of(own), own.input_size)
    if Path(what).is_dir():
        return _of_run(label, Path(what))
    features, report, pixels = features_for(what, seed=seed)
    assert report is not None
    return Analysed(label, features.eval(), pixels, int(report.identity["input_size"]))


def open_encoders(texts: Sequence[str]) -> list[Analysed]:
    """Return the encoders; raises ValueError where two have one label."""
    found = [open_encoder(text) for text in texts]
    labels = [one.label for one in found]
    if len(set(labels)) < len(labels):
        raise ValueError(f"two encoders have one label ({', '.join(labels)}): give LABEL=FILE")
    return found


def _label(text: str) -> tuple[str, str]:
    """Split LABEL=WHAT; without a label it is the file's name, or its folder's."""
    label, equals, what = text.partition("=")
    if equals and "/" not in label:
        return label, what
    path = Path(text.rpartition(":")[2])
    kind = text.partition(":")[0] + " " if ":" in text else ""
    return kind + (path.parent.name if path.stem == "encoder" else path.stem), text


def _of_run(label: str, run: Path) -> Analysed:
    """Return the encoder that a detection or segmentation run trained."""
    try:
        about = json.loads((run / RUN).read_text())
    except FileNotFoundError:
        raise WeightsError(f"{run} is not the folder of a run: it has no {RUN}") from None
    path = next((run / name for name in TRAINED if (run / name).is_file()), None)
    if path is None:
        raise WeightsError(f"{run} holds no trained weights ({' or '.join(TRAINED)})")
    features = TimmFeatures(about["arch"], about["arch_args"])
    tensors = _inside(safe_read(path))
    target = features.encoder.state_dict()
    lacking = [n for n in target if n not in tensors and not n.endswith("num_batches_tracked")]
    if lacking:
        raise WeightsError(f"{path} lacks {len(lacking)} tensors of {about['arch']}: {lacking[:3]}")
    features.encoder.load_state_dict({**target, **{n: tensors[n] for n in target if n in tensors}})
    own = about["pixels"]
    pixels = PixelStats(tuple(own["mean"]), tuple(own["std"]), own["color_order"])
    size = int(features.encoder.pretrained_cfg["input_size"][-1])
    return Analysed(label, features.eval(), pixels, size)


def _inside(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the encoder's tensors of a trained model, the averaged ones where there are such."""
    values = content.get("values", content)
    model = values.get("average") or values["model"]
    return {n.partition(INSIDE)[2]: t for n, t in model.items() if INSIDE in n}
