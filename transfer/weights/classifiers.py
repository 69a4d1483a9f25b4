"""A released classifier, as its authors trained it -> encoder in timm's names, and last layer.

A tensor is loaded, recomputed by the net, or an error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import ImageNetInfo
from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from transfer.weights.convert import Weights, read_weights
from transfer.weights.releases import find, releases
from transfer.weights.sources.base import CLASSIFIER, Raw
from transfer.weights.unwrap import unwrap

RECOMPUTED = re.compile(r".*relative_position_index$")
# ImageNet's classes in the order of their WordNet IDs, as all of these codes read the folders;
# 21,841 are those of the fall 2011 release
ORDERS = {1000: "imagenet-1k", 21841: "imagenet-22k"}
SPARK = (
    "performance_desc"  # an entry that only keyu-tian/SparK's downstream_imagenet/util.py writes
)
AVERAGED = "ema"  # its entry of the averaged weights, by which its *_ema.pth files are chosen


@dataclass(frozen=True)
class ReleasedClassifier:
    """A whole classifier: the encoder, and the last layer (classes, C) and (classes,)."""

    file: str
    family: str  # the name of a source, or "spark"
    encoder: Weights
    weight: Tensor
    bias: Tensor
    tensors: int  # of the file

    @property
    def pool(self) -> str:
        """Return what a ViT's last layer reads: "mean" of the patches, or the class "token"."""
        tensors = self.encoder.tensors
        return "token" if "norm.weight" in tensors and "fc_norm.weight" not in tensors else "mean"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the WordNet ID of each output; None for other numbers than ImageNet's."""
        return synsets(len(self.weight)) if len(self.weight) in ORDERS else None

    def last_layer(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return weight and bias with the outputs in the order of `names`.

        A class that the file has not gets the bias -inf: it is never among the first. Raises
        WeightsError where the outputs cannot be told.
        """
        own = self.class_names
        if own is None or not {*names} & {*own}:
            if len(names) != len(self.weight):
                raise WeightsError(
                    f"{self.file}: has {len(self.weight)} classes, the data has {len(names)}; "
                    "folders named by WordNet IDs (n01440764) tell which is which"
                )
            return self.weight, self.bias
        place = {name: i for i, name in enumerate(own)}
        weight = self.weight.new_zeros(len(names), self.weight.shape[1])
        bias = self.bias.new_full((len(names),), -torch.inf)
        here = [i for i, name in enumerate(names) if name in place]
        theirs = [place[names[i]] for i in here]
        weight[here], bias[here] = self.weight[theirs], self.bias[theirs]
        return weight, bias


def synsets(count: int) -> tuple[str, ...]:
    """Return ImageNet's classes by WordNet ID, in their order: `count` is a key of ORDERS."""
    return tuple(ImageNetInfo(ORDERS[count]).label_names())


def read_classifier(path: str | Path, source: str | None = None) -> ReleasedClassifier:
    """Read a classifier of any known layout; nothing in the file is executed.

    Raises FileNotFoundError, or WeightsError where the file is broken, holds no classifier, or a
    tensor of it has no place.
    """
    content = safe_read(path)
    spark = isinstance(content, dict) and SPARK in content
    part = AVERAGED if spark and AVERAGED in Path(path).stem else None
    raw = unwrap(content, str(path), part)
    encoder = read_weights(path, source, part=part)
    weight, bias = _last_layer(raw, encoder)
    return ReleasedClassifier(
        file=str(path),
        family="spark" if spark else encoder.source,
        encoder=encoder,
        weight=weight,
        bias=bias,
        tensors=len(raw.tensors),
    )


def _last_layer(raw: Raw, encoder: Weights) -> tuple[Tensor, Tensor]:
    """Return the classifier's weight and bias; WeightsError for any other tensor left over."""
    spare = {
        n: t for n, t in raw.tensors.items() if n in encoder.unused and not RECOMPUTED.match(n)
    }
    last = {n: t for n, t in spare.items() if encoder.unused[n] == CLASSIFIER}
    stem = next((n.removesuffix(".weight") for n in last if n.endswith(".weight")), "")
    both = {f"{stem}.weight", f"{stem}.bias"}
    other = sorted({*spare} - both)
    if {*last} != both or other:
        found = f": left over are {', '.join(other[:6])}" if other else ""
        raise WeightsError(
            f"{raw.file} ({encoder.source}) is no classifier of one last layer{found}; "
            f"it has {', '.join(sorted(last)) or 'none'}"
        )
    return last[f"{stem}.weight"].float(), last[f"{stem}.bias"].float()


def find_classifier(name_or_path: str) -> Path | None:
    """Return the file of a classifier by a name of configs/weights.json or its path; else None.

    The file of a name is fetched where it is not here; raises as `find` does.
    """
    if name_or_path in releases():
        return find(name_or_path)[0]
    path = Path(name_or_path)
    return path if path.is_file() and is_classifier(path) else None


def is_classifier(path: Path) -> bool:
    """Return whether a file's tensors end in the last layer of a classifier, not in another head.

    Raises WeightsError where the file is broken.
    """
    raw = unwrap(safe_read(path), str(path))
    return raw.has(r"(head|head\.fc|fc)\.weight$")
