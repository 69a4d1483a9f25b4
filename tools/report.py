"""Records -> one HTML page that needs no other file and no network.

    python tools/report.py RUNS... --out DIR [--suite configs/suites/NAME.py]

RUNS are finished runs, their records, or folders that hold them at any depth. DIR gets report.html:
tables to sort and filter, gains with their intervals, curves, predictions, reconstructions, cost,
and the command that repeats each run; and the same table as table.md, table.csv and table.tex.
With --suite the page shows every row of the published table that the suite stands beside.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status
from transfer.results.published import Line
from transfer.results.record import find_results, read_result
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
    suite: Path | None = None
    """A suite of configs/suites: its published table is shown, with the runs that belong in it."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=VALUE for a suite that is a function of arguments."""


def main(arguments: Arguments) -> None:
    """Write the page and the tables of the records."""
    runs = find_results(arguments.runs)
    lines = published_table(arguments.suite, arguments.set, runs) if arguments.suite else []
    write_report(runs, arguments.out, arguments.published, arguments.title, lines)
    print(f"{len(runs)} records -> {arguments.out / 'report.html'}")


def published_table(suite: Path, given: tuple[str, ...], runs: list[Path]) -> list[Line]:
    """Return every row of a suite's published table, with ours where a run belongs there.

    Raises ValueError for a suite that stands beside no published table.
    """
    from transfer.suites.published import figures_of, lines_of
    from transfer.suites.suite import load_suite

    loaded = load_suite(suite, given)
    if not loaded.published:
        raise ValueError(f"{suite} stands beside no published table: leave --suite out")
    return lines_of(figures_of(loaded.published), loaded.cells, [read_result(run) for run in runs])


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
