r"""Check data before a run: every problem with its exact fix.

    python tools/check_data.py images DIR|LIST|SHARDS
    python tools/check_data.py coco ROOT
    python tools/check_data.py coco --train-json F --train-images D --val-json F --val-images D
    python tools/check_data.py ade20k ROOT [--classes 150]
    python tools/check_data.py ade20k --train-images D --train-labels D --val-images D \
        --val-labels D --classes N [--zero-is-a-class] [--image-suffix .jpg]

Exits 1 if there is an error, else 0.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pretrain.checks.findings import Finding, errors
from pretrain.data.readable import check_images_at
from pretrain.run.stop import exit_status
from transfer.datasets.ade20k_checks import FolderPair, ade20k, check_ade20k, class_count
from transfer.datasets.coco_checks import CocoSplit, check_coco, coco2017

HISTOGRAM_ROWS = 20


def given_path(text: str) -> Path:
    """Return the path of an option; an empty one is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty (is a variable unset?)")
    return Path(text)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    images = kinds.add_parser(
        "images", help="what to pretrain on: a folder at any depth, a list, or shards"
    )
    images.add_argument("root", type=given_path)
    coco = kinds.add_parser("coco", help="COCO 2017, or any COCO-format instances")
    ade = kinds.add_parser("ade20k", help="ADE20K, or any folders of images and label maps")
    for pair, second in ((coco, "json"), (ade, "labels")):
        pair.add_argument("root", type=given_path, nargs="?")
        for split in ("train", "val"):
            pair.add_argument(f"--{split}-images", type=given_path, metavar="DIR")
            pair.add_argument(f"--{split}-{second}", type=given_path, metavar="PATH")
    ade.add_argument("--classes", type=int, help="default: lines of classes.txt, else 150")
    ade.add_argument("--zero-is-a-class", action="store_true", help="labels start at 0")
    ade.add_argument("--image-suffix", default=".jpg")
    ade.add_argument("--label-suffix", default=".png")
    for kind in (images, coco, ade):
        kind.add_argument("--fast", action="store_true", help="do not decode every image")
        kind.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
        kind.add_argument("--allow", nargs="*", default=[], metavar="CODE", help="errors to accept")
    return parser.parse_args()


def coco_splits(options: argparse.Namespace) -> list[CocoSplit]:
    """Return the splits that the command line names: a root, or one or two pairs."""
    if options.root:
        return coco2017(options.root)
    pairs = {
        "train": (options.train_json, options.train_images),
        "val": (options.val_json, options.val_images),
    }
    return [CocoSplit(name, *pair) for name, pair in named(pairs, "JSON file").items()]


def folder_pairs(options: argparse.Namespace) -> list[FolderPair]:
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


def check(options: argparse.Namespace, console: Console) -> list[Finding]:
    """Run the check that was asked for."""
    full, workers = not options.fast, options.workers
    if options.kind == "images":
        title = "images"
        return check_images_at(options.root, decode=full, workers=workers, progress=title)
    if options.kind == "coco":
        return check_coco(coco_splits(options), full=full, workers=workers, progress=True)
    if options.classes is not None and options.classes < 1:
        raise ValueError(f"--classes must be at least 1, got {options.classes}")
    histograms: dict[str, Counter[int]] = {}
    findings = check_ade20k(
        folder_pairs(options),
        classes=options.classes or (class_count(options.root) if options.root else 150),
        zero_is_other=not options.zero_is_a_class,
        full=full,
        workers=workers,
        progress=True,
        histograms=histograms,
    )
    show_histograms(histograms, console)
    return findings


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


def report(findings: list[Finding], allow: list[str], console: Console) -> int:
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
    options = parse()
    return report(check(options, console), options.allow, console)


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
