"""Records -> one HTML page that needs no other file and no network.

    python tools/report.py RUNS... --out DIR

RUNS are finished runs, their records, or folders that hold them at any depth. DIR gets report.html:
tables to sort and filter, gains with their intervals, curves, predictions, reconstructions, cost,
and the command that repeats each run; and the same table as table.md, table.csv and table.tex.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status
from transfer.results.record import find_results
from transfer.results.report import write_report
from transfer.results.report.page import TITLE

PUBLISHED = Path(__file__).resolve().parent.parent / "configs" / "published.json"


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs, their result.json, or folders that hold them at any depth."""
    out: Path
    """Folder for report.html, table.md, table.csv and table.tex."""
    title: str = TITLE
    """Heading of the page."""
    published: Path = PUBLISHED
    """Published figures with their sources."""


def main(arguments: Arguments) -> None:
    """Write the page and the tables of the records."""
    runs = find_results(arguments.runs)
    write_report(runs, arguments.out, arguments.published, arguments.title)
    print(f"{len(runs)} records -> {arguments.out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
