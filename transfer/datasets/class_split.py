"""Labelled images of one split, whatever form they have on disk.

    DIR/train/CLASS/IMAGE                       folders, at any depth below a class (ImageNet)
    DIR/train.csv, DIR/train.txt                lines "path,class" or "path class"
    DIR/train/*.tar                             shards: NAME.jpg beside NAME.cls, or CLASS/NAME.jpg
    DIR/cifar-100-binary(.tar.gz), -python      CIFAR-100 as published
    DIR/coco/annotations/instances_*2017.json   the objects of COCO-format images, cut out

`val` instead of `train` for the images to evaluate on.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrain.data.sources import Files, ImageSource, Shards, open_images
from pretrain.run.options import did_you_mean
from transfer.datasets.class_cifar import cifar_archive, read_cifar
from transfer.datasets.class_crops import instances_file, read_crops
from transfer.datasets.class_labels import Labels, by_name
from transfer.datasets.class_lists import read_list
from transfer.datasets.class_shards import labels_in_shards


@dataclass(frozen=True)
class ClassSplit:
    """Images and their labels, numbers of `classes`."""

    images: ImageSource
    labels: np.ndarray  # (n,) int64
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def labelled_names(self) -> list[str]:
        """Return each image's name and class in one text: what the split is, wherever it lies."""
        names = map(self.images.relative_name, range(len(self)))
        return [f"{name} {self.classes[i]}" for name, i in zip(names, self.labels, strict=True)]


def open_split(
    root: Path | str, name: str, classes: Sequence[str] | None = None, workers: int = 1
) -> ClassSplit:
    """Return the split `name` ("train" or "val") of the data at `root`.

    `classes` are those to number the labels by; None: the split's own, by name. Raises
    FileNotFoundError if there is no such split, ValueError for a class that is not among `classes`.
    """
    root = Path(root)
    images, labels, own = _read(root, name, workers)
    if classes is None:
        return ClassSplit(images, labels, own)
    place = {label: i for i, label in enumerate(classes)}
    missing = [label for label in own if label not in place]
    if missing:
        near = did_you_mean(missing[0], place)
        raise ValueError(
            f"{name} at {root} has {len(missing)} classes that the classifier has not, the first "
            f"{missing[0]!r}{near}; tools/check_data.py classes {root} lists all"
        )
    table = np.array([place[label] for label in own], dtype=np.int64)
    return ClassSplit(images, table[labels], tuple(classes))


def _read(root: Path, name: str, workers: int) -> tuple[ImageSource, np.ndarray, tuple[str, ...]]:
    """Return images, labels and classes in the form that the data has."""
    archive = cifar_archive(root)
    if archive is not None:
        return read_cifar(archive, name)
    for suffix in (".csv", ".txt"):
        if (root / f"{name}{suffix}").is_file():
            return read_list(root / f"{name}{suffix}")
    folder, instances = root / name, instances_file(root, name)
    if not folder.is_dir() and instances is not None:
        return read_crops(instances, name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no {name} images at {root}: expected {folder}/CLASS/IMAGE, {name}.csv with lines "
            f"path,class, shards {folder}/*.tar, CIFAR-100's archive, or coco/annotations"
        )
    images = open_images(folder, workers)
    if isinstance(images, Shards):
        return images, *labels_in_shards(images, workers)
    return images, *_labels_of_folders(images, folder)


def _labels_of_folders(images: Files, folder: Path) -> Labels:
    """Return the class of each image, the first folder of its name, and all classes."""
    found = [images.relative_name(i).partition(os.sep) for i in range(len(images))]
    loose = [name for name, sep, _ in found if not sep]
    if loose:
        raise ValueError(
            f"{folder / loose[0]} lies in no class folder, and {len(loose) - 1} more: expected "
            f"{folder}/CLASS/IMAGE"
        )
    return by_name([name for name, _, _ in found])
