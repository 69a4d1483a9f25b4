"""Evaluate every released model whose weights and data are at hand; measured beside published.

    python tools/canary.py --data ADEChallengeData2016 [--coco ROOT] [--imagenet DIR]
        [--only NAME ...] [--out DIR]

The names are those of configs/released_segmentors.json, released_detectors.json (on ROOT/coco) and
released_classifiers.json, the files lie in weights/; nothing is fetched. A missing file is named
with its address. OUT/NAME/released.json
is taken as it is where it is the same evaluation of the same file, so that an interrupted table
goes on; the records beside it are those of any run (tools/make_table.py OUT). Exits 1 if a figure
differs from the published one by more than its rounding.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from pretrain.files.read import WeightsError, sha256_of
from pretrain.run.options import did_you_mean
from pretrain.run.stop import exit_status
from transfer.results.released import REPORT
from transfer.weights.detectors import detectors
from transfer.weights.releases import (
    FOLDER,
    ReleasedSegmentor,
    classifiers,
    releases,
    require_expected_hash,
    segmentors,
)

HERE, NO_DATA = "weights not here", "data not here"
SEVERAL = "mIoU, multi-scale"


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    data: Path
    """Folder of ADE20K: data_root of the configs."""
    coco: Path | None = None
    """Folder that holds coco/: data.root of detection configs."""
    imagenet: Path | None = None
    """Folder of ImageNet-1K: its val/CLASS/IMAGE, or another form of labelled images."""
    only: tuple[str, ...] = ()
    """Names to evaluate; default: all."""
    single_scale: bool = False
    """Leave out the multi-scale tests, which look at every image at several sizes."""
    out: Path = Path("outputs/canary")
    """Where each model's released.json and result.json go."""
    weights: Path = FOLDER
    """Where the released files lie."""
    cfg_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every segmentor's config, e.g. workers=8."""
    classifier_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every classifier's settings, e.g. test_batch_size=64."""
    config: Path | None = None
    """The config to test segmentors by, instead of the one that each file chooses."""
    coco_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every detector's config, e.g. train.workers=8."""
    coco_config: Path | None = None
    """The config to test detectors by, instead of the one that each file chooses."""


@dataclass(frozen=True)
class Entry:
    """A published figure in percent, the file and the data that it is of, and how to measure it."""

    name: str
    metric: str
    published: float
    path: Path
    url: str | None
    data: Path | None
    measure: Callable[[], float]


@dataclass(frozen=True)
class Row:
    """An entry's figure as measured (None: not measured), and a verdict."""

    entry: Entry
    measured: float | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Return whether the figure is another one, or the file could not be used."""
        return self.verdict not in ("equal", HERE, NO_DATA)


def main(arguments: Arguments) -> int:
    """Print the table and where missing files are; return 1 if a figure differs."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    entries = [
        *segmentor_entries(arguments),
        *detector_entries(arguments),
        *classifier_entries(arguments),
    ]
    known = {entry.name for entry in entries}
    for name in arguments.only:
        if name not in known:
            raise FileNotFoundError(
                f"{name} is no release of a table{did_you_mean(name, known, count=3)}"
            )
    rows = [row_of(e) for e in entries if not arguments.only or e.name in arguments.only]
    console = Console(width=120)
    console.print(_table(rows))
    for row in {row.entry.name: row for row in rows if row.verdict == HERE}.values():
        entry = row.entry
        console.print(f"{entry.name}: get {entry.url}, put it at {entry.path}", soft_wrap=True)
    return 1 if any(row.failed for row in rows) else 0


def segmentor_entries(arguments: Arguments) -> Iterator[Entry]:
    """Yield the figures of the segmentors, at one scale and at several."""
    for release in segmentors().values():
        path = arguments.weights / release.file
        place = (path, release.url, arguments.data)
        one, several = (
            partial(measure_segmentor, release, arguments, tta=t) for t in (False, True)
        )
        yield Entry(release.name, "mIoU", release.published["mIoU"], *place, one)
        if "mIoU_ms" in release.published and not arguments.single_scale:
            yield Entry(release.name, SEVERAL, release.published["mIoU_ms"], *place, several)


def detector_entries(arguments: Arguments) -> Iterator[Entry]:
    """Yield the figures of the detectors, of boxes and of masks."""
    for release in detectors().values():
        place = (arguments.weights / release.file, release.url, arguments.coco)
        for metric, value in release.published.items():
            measure = partial(measure_detector, release, arguments, metric)
            yield Entry(release.name, metric, value, *place, measure)


def classifier_entries(arguments: Arguments) -> Iterator[Entry]:
    """Yield the top-1 accuracies of the classifiers."""
    for name, row in classifiers().items():
        release = releases()[name]
        place = (arguments.weights / release.file, release.url, arguments.imagenet)
        measure = partial(measure_classifier, name, arguments)
        yield Entry(name, "top1", row.published["top1"], *place, measure)


def row_of(entry: Entry) -> Row:
    """Return the row of one figure; a file that cannot be used is its verdict."""
    if not entry.path.is_file():
        return Row(entry, None, HERE)
    if entry.data is None or not entry.data.is_dir():
        return Row(entry, None, NO_DATA)
    try:
        measured = entry.measure()
    except WeightsError as error:
        return Row(entry, None, f"refused: {error}")
    return Row(entry, measured, verdict(entry.published, measured))


def measure_segmentor(release: ReleasedSegmentor, arguments: Arguments, tta: bool) -> float:
    """Return the mIoU of a segmentor. Raises as `former` and the evaluation do."""
    from transfer.segmentation import released
    from transfer.weights.segmentors import read_segmentor

    path = arguments.weights / release.file
    folder = arguments.out / (f"{release.name}-multi-scale" if tta else release.name)
    sha256 = sha256_of(path)
    require_expected_hash(release, path, sha256)
    segmentor = read_segmentor(path)
    options = [f"data_root={arguments.data}", *arguments.cfg_options]
    options += ["tta.on=True"] if tta else []
    cfg = released.released_config(segmentor, arguments.config, options)
    found = former(folder / REPORT, sha256, lambda: released.protocol_of(cfg))
    found = found or released.evaluate_released(segmentor, cfg, folder, release=release)
    return found["metrics"]["mIoU"]


def measure_detector(release: ReleasedSegmentor, arguments: Arguments, metric: str) -> float:
    """Return a figure of a detector. Raises as `former` and the evaluation do."""
    from transfer.detection import released
    from transfer.weights.detectors import read_detector

    path, folder = arguments.weights / release.file, arguments.out / release.name
    sha256 = sha256_of(path)
    require_expected_hash(release, path, sha256)
    detector = read_detector(path)
    options = [f"data.root={arguments.coco}", *arguments.coco_options]
    config = released.released_config(detector, arguments.coco_config, options)

    def protocol() -> dict[str, Any]:
        return released.protocol_of(released.prepare_released(detector, config))

    found = former(folder / REPORT, sha256, protocol)
    found = found or released.evaluate_released(detector, config, folder, release)
    return found["metrics"][metric]


def measure_classifier(name: str, arguments: Arguments) -> float:
    """Return the top-1 accuracy of a classifier. Raises as `former` and the evaluation do."""
    from transfer.classification import released

    path, folder = arguments.weights / releases()[name].file, arguments.out / name
    data = arguments.imagenet or Path()
    file, published = released.read_released(path)
    config = released.released_config(file, published, arguments.classifier_options)

    def protocol() -> dict[str, Any]:
        return released.protocol_of(config, released.open_validation(file, data)[0])

    found = former(folder / REPORT, file.encoder.sha256, protocol)
    found = found or released.evaluate_released(file, config, data, folder, published)
    return found["metrics"]["top1"]


def former(
    report: Path, sha256: str, protocol: Callable[[], dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the report of an earlier start; None if there is none.

    Raises ValueError where it is of another file or test.
    """
    if not report.is_file():
        return None
    found = json.loads(report.read_text())
    if found["sha256"] != sha256 or found["protocol"] != protocol():
        raise ValueError(f"{report} is of another file or test: remove it, or give another --out")
    return found


def verdict(published: float, measured: float) -> str:
    """Compare at the digits that are published: 53.6 and 53.64 are equal."""
    digits = len(str(published).partition(".")[2])
    difference = measured - published
    if round(measured, digits) == published:
        return "equal"
    return f"differs by {difference:+.{max(digits, 2)}f}"


def _table(rows: list[Row]) -> Table:
    table = Table("model", "metric", "published", "measured", "verdict")
    for row in rows:
        measured = "" if row.measured is None else f"{row.measured:.2f}"
        entry = row.entry
        table.add_row(entry.name, entry.metric, str(entry.published), measured, row.verdict)
    return table


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
