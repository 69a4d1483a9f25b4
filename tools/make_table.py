"""Records -> a comparison table, with the published figures beside it.

    python tools/make_table.py RUNS... --out DIR

RUNS are finished runs, their records, or folders that hold them at any depth. DIR gets table.md,
table.csv, table.tex and report.html (the table with pictures of predictions).
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markdown import Markdown

from pretrain.run.stop import exit_status
from transfer.results.record import find_results
from transfer.results.report import write_report

PUBLISHED = Path(__file__).resolve().parent.parent / "configs" / "published.json"


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs, their result.json, or folders that hold them at any depth."""
    out: Path
    """Folder for table.md, table.csv, table.tex and report.html."""
    published: Path = PUBLISHED
    """Published figures with their sources."""


def main(arguments: Arguments) -> None:
    """Write the table and the report of the records, and print the table."""
    runs = find_results(arguments.runs)
    markdown = write_report(runs, arguments.out, arguments.published)
    Console().print(Markdown(markdown))
    print(f"{len(runs)} records -> {arguments.out}/table.md, table.csv, table.tex, report.html")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
