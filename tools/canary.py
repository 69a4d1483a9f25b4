"""Evaluate every released segmentor and detector at hand; measured beside published.

    python tools/canary.py --data ADEChallengeData2016 [--coco ROOT] [--only NAME ...] [--out DIR]

The names are those of configs/released_segmentors.json (ADE20K) and released_detectors.json (COCO,
in ROOT/coco), the files lie in weights/. A missing file is named with its address.
OUT/NAME/released.json is taken as it is where it is the same evaluation of the same file, so that
an interrupted table goes on. Exits 1 if a figure differs from the published one by more than its
rounding.
"""

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from pretrain.files.read import WeightsError, sha256_of
from pretrain.run.stop import exit_status
from transfer.weights.detectors import detectors, find_released
from transfer.weights.releases import (
    FOLDER,
    ReleasedSegmentor,
    require_expected_hash,
    segmentors,
)

HERE = "weights not here"
NO_DATA = "data not named"
FIGURES = ("mIoU", "AP_box", "AP_mask")  # those that a release publishes have a row each


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    data: Path | None = None
    """Folder of ADE20K: data_root of the configs."""
    coco: Path | None = None
    """Folder that holds coco/: data.root of detection configs."""
    only: tuple[str, ...] = ()
    """Names to evaluate; default: all."""
    out: Path = Path("outputs/canary")
    """Where each model's released.json goes."""
    weights: Path = FOLDER
    """Where the released files lie."""
    cfg_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every segmentor's config, e.g. workers=8."""
    config: Path | None = None
    """The config to test segmentors by, instead of the one that each file chooses."""
    coco_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every detector's config, e.g. train.workers=8."""
    coco_config: Path | None = None
    """The config to test detectors by, instead of the one that each file chooses."""


@dataclass(frozen=True)
class Row:
    """A model's published and measured figure in percent (None: not measured), and a verdict."""

    name: str
    figure: str
    published: float
    measured: float | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether the figure is another one, or the file could not be used."""
        return self.verdict not in ("equal", HERE, NO_DATA)


def main(arguments: Arguments) -> int:
    """Print the table and where missing files are; return 1 if a figure differs."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    known = {**segmentors(), **detectors()}
    for name in arguments.only:
        if name not in known:
            find_released(name)  # says which names are near
    chosen = [r for r in known.values() if not arguments.only or r.name in arguments.only]
    rows = [row for release in chosen for row in rows_of(release, arguments)]
    console = Console(width=120)
    console.print(_table(rows))
    for release in chosen:
        path = arguments.weights / release.file
        if not path.is_file():
            console.print(f"{release.name}: get {release.url}, put it at {path}", soft_wrap=True)
    return 1 if any(row.failed for row in rows) else 0


def rows_of(release: ReleasedSegmentor, arguments: Arguments) -> list[Row]:
    """Return a row for each figure of a model; a file that cannot be used is its verdict."""
    published = {n: v for n, v in release.published.items() if n in FIGURES}
    data = arguments.coco if release.name in detectors() else arguments.data
    why = HERE if not (arguments.weights / release.file).is_file() else NO_DATA
    metrics: dict[str, float] = {}
    if why is NO_DATA and data is not None:
        try:
            metrics = measure(release, arguments)["metrics"]
        except WeightsError as error:
            why = f"refused: {error}"
    if not metrics:
        return [Row(release.name, n, value, None, why) for n, value in published.items()]
    return [
        Row(release.name, n, value, metrics[n], verdict(value, metrics[n]))
        for n, value in published.items()
    ]


def measure(release: ReleasedSegmentor, arguments: Arguments) -> dict[str, Any]:
    """Return the report of one model, of an earlier start where it is the same evaluation.

    Raises WeightsError where the file cannot be used, ValueError where the report is another's.
    """
    path, folder = arguments.weights / release.file, arguments.out / release.name
    sha256 = sha256_of(path)
    require_expected_hash(release, path, sha256)
    report = folder / "released.json"
    former = json.loads(report.read_text()) if report.is_file() else None
    kind = _detector if release.name in detectors() else _segmentor
    found = kind(path, folder, arguments, former is not None)
    if former is None:
        return found
    if former["sha256"] != sha256 or former["protocol"] != found:
        raise ValueError(f"{report} is of another file or test: remove it, or give another --out")
    return former


def _segmentor(path: Path, folder: Path, arguments: Arguments, done: bool) -> dict[str, Any]:
    """Return a segmentor's report; where it is done already, the protocol it should have."""
    from transfer.segmentation import released
    from transfer.weights.segmentors import read_segmentor

    segmentor = read_segmentor(path)
    options = [f"data_root={arguments.data}", *arguments.cfg_options]
    cfg = released.released_config(segmentor, arguments.config, options)
    return released.protocol_of(cfg) if done else released.evaluate_released(segmentor, cfg, folder)


def _detector(path: Path, folder: Path, arguments: Arguments, done: bool) -> dict[str, Any]:
    """Return a detector's report; where it is done already, the protocol it should have."""
    from transfer.detection import released
    from transfer.weights.detectors import read_detector

    detector = read_detector(path)
    options = [f"data.root={arguments.coco}", *arguments.coco_options]
    config = released.released_config(detector, arguments.coco_config, options)
    if done:
        return released.protocol_of(released.prepare_released(detector, config))
    return released.evaluate_released(detector, config, folder)


def verdict(published: float, measured: float) -> str:
    """Compare at the digits that are published: 53.6 and 53.64 are equal."""
    digits = len(str(published).partition(".")[2])
    difference = measured - published
    return "equal" if round(measured, digits) == published else f"differs by {difference:+.2f}"


def _table(rows: list[Row]) -> Table:
    table = Table("model", "figure", "published", "measured", "verdict")
    for row in rows:
        measured = "" if row.measured is None else f"{row.measured:.2f}"
        table.add_row(row.name, row.figure, str(row.published), measured, row.verdict)
    return table


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
