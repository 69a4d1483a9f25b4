"""Evaluate every released segmentor whose weights are at hand; measured beside published.

    python tools/canary.py --data ADEChallengeData2016 [--only NAME ...] [--out DIR]

The names are those of configs/released_segmentors.json, the files lie in weights/. A missing file
is named with its address. OUT/NAME/released.json is taken as it is where it is the same evaluation
of the same file, so that an interrupted table goes on. Exits 1 if a figure differs from the
published one by more than its rounding.
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
from transfer.weights.releases import (
    FOLDER,
    ReleasedSegmentor,
    find_segmentor,
    require_expected_hash,
    segmentors,
)

HERE = "weights not here"


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    data: Path
    """Folder of ADE20K: data_root of the configs."""
    only: tuple[str, ...] = ()
    """Names to evaluate; default: all."""
    out: Path = Path("outputs/canary")
    """Where each model's released.json goes."""
    weights: Path = FOLDER
    """Where the released files lie."""
    cfg_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Of every config, e.g. workers=8."""
    config: Path | None = None
    """The config to test by, instead of the one that each file chooses."""


@dataclass(frozen=True)
class Row:
    """A model, its published and measured mIoU in percent (None: not measured), and a verdict."""

    name: str
    published: float
    measured: float | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether the figure is another one, or the file could not be used."""
        return self.verdict not in ("equal", HERE)


def main(arguments: Arguments) -> int:
    """Print the table and where missing files are; return 1 if a figure differs."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    known = segmentors()
    for name in arguments.only:
        if name not in known:
            find_segmentor(name)  # says which names are near
    chosen = [r for r in known.values() if not arguments.only or r.name in arguments.only]
    rows = [row_of(release, arguments) for release in chosen]
    console = Console(width=120)
    console.print(_table(rows))
    for release in chosen:
        path = arguments.weights / release.file
        if not path.is_file():
            console.print(f"{release.name}: get {release.url}, put it at {path}", soft_wrap=True)
    return 1 if any(row.failed for row in rows) else 0


def row_of(release: ReleasedSegmentor, arguments: Arguments) -> Row:
    """Return the row of one model; a file that cannot be used is its verdict."""
    published = release.published["mIoU"]
    if not (arguments.weights / release.file).is_file():
        return Row(release.name, published, None, HERE)
    try:
        found = measure(release, arguments)
    except WeightsError as error:
        return Row(release.name, published, None, f"refused: {error}")
    measured = found["metrics"]["mIoU"]
    return Row(release.name, published, measured, verdict(published, measured))


def measure(release: ReleasedSegmentor, arguments: Arguments) -> dict[str, Any]:
    """Return the report of one model, of an earlier start where it is the same evaluation.

    Raises WeightsError where the file cannot be used, ValueError where the report is another's.
    """
    from transfer.segmentation import released
    from transfer.weights.segmentors import read_segmentor

    path, folder = arguments.weights / release.file, arguments.out / release.name
    sha256 = sha256_of(path)
    require_expected_hash(release, path, sha256)
    segmentor = read_segmentor(path)
    options = [f"data_root={arguments.data}", *arguments.cfg_options]
    cfg = released.released_config(segmentor, arguments.config, options)
    report = folder / released.REPORT
    if not report.is_file():
        return released.evaluate_released(segmentor, cfg, folder)
    former = json.loads(report.read_text())
    if former["sha256"] != sha256 or former["protocol"] != released.protocol_of(cfg):
        raise ValueError(f"{report} is of another file or test: remove it, or give another --out")
    return former


def verdict(published: float, measured: float) -> str:
    """Compare at the digits that are published: 53.6 and 53.64 are equal."""
    digits = len(str(published).partition(".")[2])
    difference = measured - published
    return "equal" if round(measured, digits) == published else f"differs by {difference:+.2f}"


def _table(rows: list[Row]) -> Table:
    table = Table("model", "published mIoU", "measured", "verdict")
    for row in rows:
        measured = "" if row.measured is None else f"{row.measured:.2f}"
        table.add_row(row.name, str(row.published), measured, row.verdict)
    return table


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
