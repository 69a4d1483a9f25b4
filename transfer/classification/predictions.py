"""What a classifier said of every image of a split: on disk, and what was taken for what."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.files.read import read_metadata, safe_read
from pretrain.files.write import atomic_write, write_safetensors
from transfer.classification.protocol import images_of
from transfer.datasets.class_split import ClassSplit

NAME = "predictions.safetensors"
FORMAT = "mim-transfer-predictions/1"


@dataclass(frozen=True)
class Predictions:
    """The class of the largest logit of each image of a split, in the split's order."""

    classes: Tensor  # (n,) int64
    confidences: Tensor  # (n,) float32, the softmax of its logit

    def wrong(self, labels: Tensor) -> Tensor:
        """Return the numbers of the images of other labels (n,), the surest mistake first."""
        sure = self.confidences.masked_fill(self.classes == labels, -1)
        order = sure.argsort(descending=True, stable=True)
        return order[: int((self.classes != labels).sum())]

    def confusion(self, labels: Tensor, classes: int) -> Tensor:
        """Count images by (label, predicted class), (classes, classes) int64."""
        pairs = labels * classes + self.classes
        return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class Confused(NamedTuple):
    """A class that was taken for another one, how often, and its number of images."""

    truth: int
    taken_for: int
    images: int
    of: int


def most_confused(confusion: Tensor, most: int) -> list[Confused]:
    """Return the pairs of different classes with most images, at most `most` of them."""
    off = confusion.clone().fill_diagonal_(0)
    of = confusion.sum(dim=1)
    found = []
    for place in off.flatten().argsort(descending=True, stable=True)[:most].tolist():
        truth, taken_for = divmod(place, len(off))
        if images := int(off[truth, taken_for]):
            found.append(Confused(truth, taken_for, images, int(of[truth])))
    return found


def write_predictions(folder: Path, found: Predictions, split: ClassSplit) -> None:
    """Write the predictions on a split into `folder` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "data": json.dumps(images_of(split))}
    tensors = {"classes": found.classes, "confidences": found.confidences}
    atomic_write(folder / NAME, lambda path: write_safetensors(path, tensors, header))


def read_predictions(path: Path, split: ClassSplit) -> Predictions:
    """Read the predictions on a split.

    Raises FileNotFoundError, or ValueError if they were made on other images.
    """
    header = read_metadata(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} does not hold predictions of a classifier")
    made_on, here = json.loads(header["data"]), images_of(split)
    if made_on != here:
        raise ValueError(
            f"{path} was made on {made_on['images']:,} images (digest {made_on['digest']}), these "
            f"are {here['images']:,} ({here['digest']}): give the data that the run evaluated on"
        )
    return Predictions(**safe_read(path))
