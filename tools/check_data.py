r"""Check data before a run: every problem with its exact fix.

    python tools/check_data.py images DIR|LIST|SHARDS
    python tools/check_data.py coco ROOT
    python tools/check_data.py coco --train-json F --train-images D --val-json F --val-images D
    python tools/check_data.py ade20k ROOT [--classes 150]
    python tools/check_data.py ade20k --train-images D --train-labels D --val-images D \
        --val-labels D --classes N [--zero-is-a-class] [--image-suffix .jpg]
    python tools/check_data.py classes DIR [--dataset imagenet_1k|cifar100]

Exits 1 if there is an error, else 0.
"""

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, subcommand

from pretrain.checks.findings import Finding, errors
from pretrain.data.readable import check_images_at
from pretrain.run.stop import exit_status
from transfer.datasets.ade20k_checks import FolderPair, ade20k, check_ade20k, class_count
from transfer.datasets.class_checks import Counts, check_classes
from transfer.datasets.coco_checks import CocoSplit, check_coco, coco2017

HISTOGRAM_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class Check:
    """What all checks take."""

    fast: bool = False
    """Do not decode every image."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    allow: tuple[str, ...] = ()
    """Codes of errors to accept."""


@dataclass(frozen=True, kw_only=True)
class Images(Check):
    """What to pretrain on: a folder at any depth, a list, or shards."""

    root: Positional[Path]
    """The folder, list or shards."""


@dataclass(frozen=True, kw_only=True)
class Classes(Check):
    """Labelled images in any form of docs/classification.md."""

    root: Positional[Path]
    """The folder, list or shards."""
    dataset: Literal["imagenet_1k", "cifar100"] | None = None
    """The dataset whose counts are to be met."""


@dataclass(frozen=True, kw_only=True)
class Coco(Check):
    """COCO 2017, or any COCO-format instances."""

    root: Positional[Path | None] = None
    """The folder of COCO 2017; none: the pairs below."""
    train_images: Path | None = None
    """Folder of training images."""
    train_json: Path | None = None
    """Their annotations."""
    val_images: Path | None = None
    """Folder of validation images."""
    val_json: Path | None = None
    """Their annotations."""


@dataclass(frozen=True, kw_only=True)
class Ade20k(Check):
    """ADE20K, or any folders of images and label maps."""

    root: Positional[Path | None] = None
    """The folder of ADE20K; none: the pairs below."""
    train_images: Path | None = None
    """Folder of training images."""
    train_labels: Path | None = None
    """Folder of their label maps."""
    val_images: Path | None = None
    """Folder of validation images."""
    val_labels: Path | None = None
    """Folder of their label maps."""
    classes: int | None = None
    """Number of classes; default: the lines of classes.txt, else 150."""
    zero_is_a_class: bool = False
    """Labels start at 0."""
    image_suffix: str = ".jpg"
    """Ending of the images' names."""
    label_suffix: str = ".png"
    """Ending of the label maps' names."""


Asked = (
    Annotated[Images, subcommand("images")]
    | Annotated[Classes, subcommand("classes")]
    | Annotated[Coco, subcommand("coco")]
    | Annotated[Ade20k, subcommand("ade20k")]
)


def coco_splits(options: Coco) -> list[CocoSplit]:
    """Return the splits that the command line names: a root, or one or two pairs."""
    if options.root:
        return coco2017(options.root)
    pairs = {
        "train": (options.train_json, options.train_images),
        "val": (options.val_json, options.val_images),
    }
    return [CocoSplit(name, *pair) for name, pair in named(pairs, "JSON file").items()]


def folder_pairs(options: Ade20k) -> list[FolderPair]:
    """Return the pairs of image and label folders that the command line names."""
    if options.root:
        return ade20k(options.root)
    pairs = {
        "train": (options.train_images, options.train_labels),
        "val": (options.val_images, options.val_labels),
    }
    suffixes = (options.image_suffix, options.label_suffix)
    return [FolderPair(n, *pair, *suffixes) for n, pair in named(pairs, "label folder").items()]


def named(
    pairs: dict[str, tuple[Path | None, Path | None]], other: str
) -> dict[str, tuple[Path, Path]]:
    """Return the complete pairs. Raises ValueError for half a pair, or if there is none."""
    whole = {}
    for name, (first, second) in pairs.items():
        if first and second:
            whole[name] = (first, second)
        elif first or second:
            raise ValueError(f"{name} needs both its images and its {other}")
    if not whole:
        raise ValueError(f"give ROOT, or the images and the {other} of a split")
    return whole


def check(options: Images | Classes | Coco | Ade20k, console: Console) -> list[Finding]:
    """Run the check that was asked for."""
    full, workers = not options.fast, options.workers
    match options:
        case Images():
            return check_images_at(options.root, decode=full, workers=workers, progress="images")
        case Coco():
            return check_coco(coco_splits(options), full=full, workers=workers, progress=True)
        case Classes():
            findings, counts = check_classes(
                options.root, dataset=options.dataset, full=full, workers=workers, progress=True
            )
            show_counts(counts, console)
            return findings
        case Ade20k():
            return check_label_maps(options, console)


def check_label_maps(options: Ade20k, console: Console) -> list[Finding]:
    """Check images and label maps, and print the labels' shares."""
    if options.classes is not None and options.classes < 1:
        raise ValueError(f"--classes must be at least 1, got {options.classes}")
    histograms: dict[str, Counter[int]] = {}
    findings = check_ade20k(
        folder_pairs(options),
        classes=options.classes or (class_count(options.root) if options.root else 150),
        zero_is_other=not options.zero_is_a_class,
        full=not options.fast,
        workers=options.workers,
        progress=True,
        histograms=histograms,
    )
    show_histograms(histograms, console)
    return findings


def show_counts(counts: Counts | None, console: Console) -> None:
    """Print the images of each class, the rarest first."""
    if counts is None:
        return
    table = Table("class", *counts.images, title="images")
    rows = sorted(zip(counts.classes, *counts.images.values(), strict=False), key=lambda r: r[1])
    for name, *numbers in rows[:HISTOGRAM_ROWS]:
        table.add_row(name, *map(str, numbers))
    if len(rows) > HISTOGRAM_ROWS:
        table.caption = f"and {len(rows) - HISTOGRAM_ROWS} more frequent classes"
    console.print(table)


def show_histograms(histograms: dict[str, Counter[int]], console: Console) -> None:
    """Print each label's share of the pixels, the most frequent first."""
    table = Table("label", *histograms, title="share of pixels, percent")
    total: Counter[int] = sum(histograms.values(), Counter())
    sums = {name: max(1, histogram.total()) for name, histogram in histograms.items()}
    for label, _ in total.most_common(HISTOGRAM_ROWS):
        shares = [f"{100 * h[label] / sums[n]:.2f}" for n, h in histograms.items()]
        table.add_row(str(label), *shares)
    if len(total) > HISTOGRAM_ROWS:
        table.caption = f"and {len(total) - HISTOGRAM_ROWS} rarer labels"
    console.print(table)


def report(findings: list[Finding], allow: tuple[str, ...], console: Console) -> int:
    """Print the findings; return 1 if there is an error that `allow` does not name, else 0."""
    for finding in findings:
        allowed = finding.code in allow
        style = "red" if finding.level == "error" and not allowed else "yellow"
        level = f"allowed {finding.level}" if allowed else finding.level
        console.print(f"{level} [{finding.code}] {finding.where}", style=style, markup=False)
        console.print(f"    {finding.message}\n    fix: {finding.fix}", markup=False)
    left = len(errors(findings, allow))
    console.print(
        f"{left} errors, {len(findings) - left} warnings or allowed" if findings else "ok"
    )
    return 1 if left else 0


def run() -> int:
    """Check the data; return 1 if there are errors, else 0."""
    console = Console(soft_wrap=True, highlight=False)
    options = tyro.cli(Asked, description=__doc__)  # type: ignore[call-overload]
    return report(check(options, console), options.allow, console)


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
