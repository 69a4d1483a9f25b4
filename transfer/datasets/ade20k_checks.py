"""Checks of images and label maps in two folders (ADE20K's layout) before a run.

Without `full`, files are paired and a sample of the label maps is read; with it every file is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pretrain.checks.findings import Finding, Findings
from pretrain.checks.images import ImageFacts, read_images
from pretrain.checks.parallel import parallel_map
from pretrain.files.image import BROKEN
from transfer.datasets.share import share_of

# ADE20K scene parsing (sceneparsing.csail.mit.edu): images of each split
ADE20K = {"training": 20_210, "validation": 2_000}
ADE20K_CLASSES = 150
IGNORED = 255
SAMPLE = 64  # label maps read without `full`


@dataclass(frozen=True)
class FolderPair:
    """One split: a folder of images and one of label maps, paired by file name.

    A share of the images may be all that is used.
    """

    name: str
    images: Path
    labels: Path
    image_suffix: str = ".jpg"
    label_suffix: str = ".png"
    share: float = 1.0


@dataclass(frozen=True)
class LabelFacts:
    """One label map as it was found; `counts` are pixels by value."""

    path: str
    width: int = 0
    height: int = 0
    mode: str = ""
    counts: tuple[tuple[int, int], ...] = ()
    problem: str = ""


def ade20k(root: Path | str) -> list[FolderPair]:
    """Return the splits below `root` or `root`/ADEChallengeData2016."""
    root = Path(root)
    if not (root / "images").is_dir() and (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    return [FolderPair(n, root / "images" / n, root / "annotations" / n) for n in ADE20K]


def class_count(root: Path | str) -> int:
    """Count the lines of classes.txt beside ADE20K's folders; 150 if there is no such file."""
    path = ade20k(root)[0].images.parent.parent / "classes.txt"
    return len(path.read_text().split("\n")) - 1 if path.is_file() else ADE20K_CLASSES


def check_ade20k(
    splits: Sequence[FolderPair],
    *,
    classes: int = ADE20K_CLASSES,
    zero_is_other: bool = True,
    full: bool = False,
    workers: int = 1,
    progress: bool = False,
    histograms: dict[str, Counter[int]] | None = None,
) -> list[Finding]:
    """Return everything wrong with `splits` (training split first), errors first.

    `histograms` receives the pixels by label of each split, over the label maps that were read.
    Valid labels are 1..classes and 0 = other with `zero_is_other`, else 0..classes-1;
    255 is ignored either way.
    """
    findings = Findings()
    facts: list[list[ImageFacts]] = []
    for split in splits:
        pairs = _pair(split, findings)
        step = 1 if full else max(1, len(pairs) // SAMPLE)
        read = pairs[::step]
        title = f"{split.name} labels" if progress else None
        labels = list(
            parallel_map(label_facts, [b for _, b in read], workers=workers, progress=title)
        )
        title = f"{split.name} images" if progress else None
        paths = [a for a, _ in read]
        images = read_images(paths, decode=full, workers=workers, progress=title)
        valid = range(classes + 1) if zero_is_other else range(classes)
        _check_labels(split, labels, valid, findings, whole=full)
        _check_something_counts(split, labels, classes, zero_is_other, findings)
        _check_images(images, labels, findings)
        facts.append(images)
        if histograms is not None:
            histograms[split.name] = _histogram(labels)
    for split, images in zip(splits[1:], facts[1:], strict=True):
        _check_overlap(splits[0], facts[0], split, images, findings)
    return findings.all()


def label_facts(path: str) -> LabelFacts:
    """Read one label map, (H, W) of class numbers."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
            if values.ndim != 2:
                return LabelFacts(path, image.width, image.height, image.mode)
            present, pixels = np.unique(values.astype(np.int64), return_counts=True)
            counts = tuple(zip(present.tolist(), pixels.tolist(), strict=True))
            return LabelFacts(path, image.width, image.height, image.mode, counts)
    except BROKEN as error:
        problem = "the file is empty" if Path(path).stat().st_size == 0 else str(error)
        return LabelFacts(path, problem=problem)


def _pair(split: FolderPair, findings: Findings) -> list[tuple[str, str]]:
    folders = {split.images: split.image_suffix, split.labels: split.label_suffix}
    stems: list[set[str]] = []
    for folder, suffix in folders.items():
        if not folder.is_dir():
            findings.error("folder-missing", folder, "no such folder", "unpack the data there")
            return []
        files = (path for path in folder.rglob(f"*{suffix}") if path.is_file())
        stems.append({_stem(path, folder, suffix) for path in files})
    images, labels = stems
    if not images | labels:
        message = f"no {split.image_suffix} file in it"
        findings.error("no-images", split.images, message, "give the right folder or suffix")
    _check_counts(split, images, findings)
    if split.share < 1:
        names = sorted(images)
        kept = share_of([Path(n + split.image_suffix).as_posix() for n in names], split.share)
        images = {names[i] for i in kept}
        labels &= images
    file, label = partial(_file, split.images), partial(_file, split.labels)
    for stem in sorted(images - labels):
        path = label(stem + split.label_suffix)
        fix = f"add the label map or delete {file(stem + split.image_suffix)}"
        findings.error("label-missing", path, "an image without a label map", fix)
    for stem in sorted(labels - images):
        path = file(stem + split.image_suffix)
        fix = f"add the image or delete {label(stem + split.label_suffix)}"
        findings.error("image-missing", path, "a label map without an image", fix)
    both = sorted(images & labels)
    return [(file(s + split.image_suffix), label(s + split.label_suffix)) for s in both]


def _stem(path: Path, folder: Path, suffix: str) -> str:
    return str(path.relative_to(folder))[: -len(suffix)]


def _file(folder: Path, name: str) -> str:
    return str(folder / name)


def _check_counts(split: FolderPair, images: set[str], findings: Findings) -> None:
    expected = ADE20K.get(split.name)
    is_ade20k = any(stem.startswith(("ADE_train_", "ADE_val_")) for stem in images)
    if expected and is_ade20k and len(images) != expected:
        message = f"{len(images):,} images, ADE20K has {expected:,}"
        fix = "unpack ADEChallengeData2016.zip again, or allow `counts`"
        findings.error("counts", split.images, message, fix)


def _check_labels(
    split: FolderPair, labels: list[LabelFacts], valid: range, findings: Findings, *, whole: bool
) -> None:
    seen: set[int] = set()
    for label in labels:
        values = {v for v, _ in label.counts}
        seen |= values
        if label.problem:
            fix = "copy it again, or delete it with its image"
            findings.error("label-unreadable", label.path, label.problem, fix)
        elif not label.counts or label.mode not in ("L", "P", "1"):
            message = f"{label.mode} pixels, expected one 8-bit class number a pixel"
            fix = "save the class numbers as an 8-bit greyscale PNG (mode L)"
            findings.error("label-mode", label.path, message, fix)
        elif outside := sorted(values - set(valid) - {IGNORED}):
            message = f"values {outside[:8]} outside {valid[0]}..{valid[-1]} and {IGNORED}"
            fix = "correct the map or the number of classes; use 255 for pixels to ignore"
            findings.error("label-value", label.path, message, fix)
        elif label.mode == "P":
            fix = "save it in mode L: readers that apply the palette see colours, not classes"
            findings.warning("label-palette", label.path, "a palette PNG", fix)
    if whole and labels:
        _check_use(split, seen, valid, findings)


def _check_something_counts(
    split: FolderPair,
    labels: list[LabelFacts],
    classes: int,
    zero_is_other: bool,
    findings: Findings,
) -> None:
    """Find a split in which all pixels that are not ignored are of one class, or there are none."""
    ignored = {IGNORED, 0} if zero_is_other else {IGNORED}
    maps = [label for label in labels if label.counts]
    seen = {value for label in maps for value, _ in label.counts}
    if maps and seen <= ignored:
        message = f"every pixel of {len(maps):,} label maps is ignored"
        fix = "export the labels again, or correct reduce_zero_label"
        findings.error("labels-ignored", split.labels, message, fix)
    elif classes > 1 and len(seen - ignored) == 1 and seen & ignored:  # e.g. masks of 0 and 255
        (only,) = seen - ignored
        left_out = " and ".join(map(str, sorted(seen & ignored)))
        message = f"{len(maps):,} label maps hold {only} alone, and {left_out}, which is ignored"
        fix = "number the classes 0, 1, ... (a mask's 255 is 1), or correct reduce_zero_label"
        findings.error("labels-ignored", split.labels, message, fix)


def _check_use(split: FolderPair, seen: set[int], valid: range, findings: Findings) -> None:
    unused = [v for v in valid if v not in seen and v > 0]
    if unused:
        fix = "leave the classes out, or expect no figure for them"
        message = f"labels {unused[:12]} occur nowhere ({len(unused)} of {len(valid)})"
        findings.warning("class-unused", split.labels, message, fix)


def _check_images(images: list[ImageFacts], labels: list[LabelFacts], findings: Findings) -> None:
    for image, label in zip(images, labels, strict=True):
        if image.problem:
            fix = "copy it again, or delete it with its label map"
            findings.error("image-unreadable", image.path, image.problem, fix)
        elif not label.problem and (image.width, image.height) != (label.width, label.height):
            message = (
                f"{label.width}x{label.height} pixels, its image has {image.width}x{image.height}"
            )
            fix = "export the label map at the image's size, without interpolating classes"
            findings.error("label-size", label.path, message, fix)


def _check_overlap(
    train: FolderPair,
    train_facts: list[ImageFacts],
    val: FolderPair,
    val_facts: list[ImageFacts],
    findings: Findings,
) -> None:
    fix = "take the image out of one of the splits"
    if train.images.resolve() == val.images.resolve():
        findings.error("split-overlap", val.images, f"also the folder of {train.name}", fix)
        return
    digests = {f.digest: f.path for f in train_facts if f.digest}
    for facts in val_facts:
        if facts.digest in digests:
            message = f"the same image as {digests[facts.digest]}"
            findings.error("split-overlap", facts.path, message, fix)


def _histogram(labels: list[LabelFacts]) -> Counter[int]:
    total: Counter[int] = Counter()
    for label in labels:
        total.update(dict(label.counts))
    return total
