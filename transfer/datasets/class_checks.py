"""Checks of labelled images before a run: classes, counts, overlap of the splits, unreadable files.

Errors: split-missing, class-empty, class-unknown, split-overlap, class-count, image-count,
image-unreadable. Warnings: class-without-train, class-without-val, class-imbalance, image-twice.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pretrain.checks.findings import Finding, Findings
from pretrain.checks.parallel import parallel_map
from pretrain.data.sources import Files
from pretrain.files.image import inspect
from pretrain.run.options import did_you_mean
from transfer.datasets.class_split import ClassSplit, open_split

# dataset -> classes, training and validation images; as torchvision and the papers count them
KNOWN = {"imagenet_1k": (1000, 1_281_167, 50_000), "cifar100": (100, 50_000, 10_000)}
RARE = 100  # times fewer images than the most frequent class


@dataclass(frozen=True)
class Counts:
    """What a check found in good order: images by class of each split."""

    classes: tuple[str, ...]
    images: dict[str, list[int]]


def check_classes(
    root: Path | str,
    *,
    dataset: str | None = None,
    full: bool = True,
    workers: int = 1,
    progress: bool = False,
) -> tuple[list[Finding], Counts | None]:
    """Check both splits at `root`; with `full`, read every image as well.

    `dataset` is a name of KNOWN whose counts are to be met.
    """
    findings = Findings()
    splits = _open(Path(root), findings, workers)
    train, val = splits.get("train"), splits.get("val")
    if train is None:
        return findings.all(), None
    _empty_folders(Path(root), findings)
    if val is not None:
        _unlike_classes(train, val, findings)
    found = [*findings.all(), *check_splits(train, val)]
    more = Findings()
    if dataset is not None:
        _known_counts(dataset, train, val, more)
    digests = {n: _read(s, n, full, workers, progress, more) for n, s in splits.items()}
    _same_bytes(digests, splits, more)
    images = {
        n: np.bincount(s.labels, minlength=len(s.classes)).tolist() for n, s in splits.items()
    }
    return [*found, *more.all()], Counts(train.classes, images)


def check_splits(train: ClassSplit, val: ClassSplit | None) -> list[Finding]:
    """Check labels and names alone, before every run: nothing is read."""
    findings = Findings()
    counts = np.bincount(train.labels, minlength=len(train.classes))
    if len(train.classes) < 2:
        told = f"one class alone, {train.classes[0]!r}: there is nothing to tell apart"
        findings.error("class-count", "train", told, "give a folder with two classes or more")
    for name, count in zip(train.classes, counts.tolist(), strict=True):
        if not count:
            fix = "add images of it, or know that it is never learnt"
            findings.warning("class-without-train", name, "the class has no training image", fix)
        elif count * RARE < counts.max():
            told = f"{count} images, the most frequent class has {counts.max()}"
            findings.warning("class-imbalance", name, told, "none needed; accuracy hides it")
    if val is not None:
        _overlap(train, val, findings)
        present = {val.classes[i] for i in np.unique(val.labels)}
        for name in (c for c in train.classes if c not in present):
            fix = "add images of it to val, or know that accuracy does not tell of it"
            findings.warning("class-without-val", name, "the class has no validation image", fix)
    return findings.all()


def _open(root: Path, findings: Findings, workers: int) -> dict[str, ClassSplit]:
    splits = {}
    for name in ("train", "val"):
        try:
            splits[name] = open_split(root, name, None, workers)
        except (FileNotFoundError, ValueError) as error:
            findings.error("split-missing", root, str(error), f"give {root} a readable {name}")
    return splits


def _empty_folders(root: Path, findings: Findings) -> None:
    """Find class folders without an image: the images' names do not tell of them."""
    for split in ("train", "val"):
        for folder in sorted((root / split).iterdir()) if (root / split).is_dir() else ():
            if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
                fix = f"remove it (rmdir '{folder}'), or put the class's images there"
                findings.error("class-empty", folder, "the class folder is empty", fix)


def _unlike_classes(train: ClassSplit, val: ClassSplit, findings: Findings) -> None:
    for name in sorted(set(val.classes) - set(train.classes)):
        near = did_you_mean(name, train.classes)
        fix = "rename it as in train, or remove it"
        told = f"val has the class {name!r}, train has not{near}"
        findings.error("class-unknown", name, told, fix)


def _overlap(train: ClassSplit, val: ClassSplit, findings: Findings) -> None:
    """Find the same file, by its real path, in both splits."""
    if not isinstance(train.images, Files) or not isinstance(val.images, Files):
        return
    here = set(_paths(train.images))
    for path in (path for path in _paths(val.images) if path in here):
        fix = "remove it from one of them"
        findings.error("split-overlap", path, "the file is in train and in val", fix)


def _paths(images: Files) -> Iterable[str]:
    return (images.name(i) for i in range(len(images)))


def _known_counts(
    dataset: str, train: ClassSplit, val: ClassSplit | None, findings: Findings
) -> None:
    classes, *counts = KNOWN[dataset]
    if len(train.classes) != classes:
        told = f"{len(train.classes)} classes, {dataset} has {classes}"
        findings.error("class-count", dataset, told, "unpack it again, or name your own dataset")
    for name, split, count in zip(("train", "val"), (train, val), counts, strict=True):
        if split is not None and len(split) != count:
            told = f"{name} has {len(split):,} images, {dataset} has {count:,}"
            findings.error("image-count", dataset, told, "unpack it again")


def _read(
    split: ClassSplit, name: str, full: bool, workers: int, progress: bool, findings: Findings
) -> list[str]:
    """Return a digest of each image's bytes, "" where it was not read."""
    title = f"{name} images" if progress else None
    look = partial(_look, split, full)
    digests = []
    for i, (problem, digest) in enumerate(
        parallel_map(look, range(len(split)), workers=workers, progress=title)
    ):
        digests.append(digest)
        if problem:
            fix = "copy it again or delete it"
            findings.error("image-unreadable", split.images.name(i), problem, fix)
    return digests


def _look(split: ClassSplit, full: bool, index: int) -> tuple[str, str]:
    """Return what is wrong with an image, and its digest."""
    try:
        with split.images.open(index) as stream:
            content = stream.read() if full else b""
            if full and not content:
                return "the file is empty", ""
            stream.seek(0)
            inspect(stream, full)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error), ""
    return "", hashlib.blake2b(content, digest_size=16).hexdigest() if full else ""


def _same_bytes(
    digests: dict[str, list[str]], splits: dict[str, ClassSplit], findings: Findings
) -> None:
    """Find images with the same bytes: across the splits an error, within one a warning."""
    first: dict[str, tuple[str, int]] = {}
    for name, found in digests.items():
        for i, digest in enumerate(found):
            other, j = first.setdefault(digest, (name, i)) if digest else (name, i)
            if (other, j) == (name, i):
                continue
            told = f"the same bytes as {splits[other].images.name(j)}"
            where, fix = splits[name].images.name(i), "delete one of the two"
            if other == name:
                findings.warning("image-twice", where, told, fix)
            else:
                findings.error("split-overlap", where, told, fix)
