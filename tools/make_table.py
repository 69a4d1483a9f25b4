"""Records -> a comparison table, with the published figures beside it.

    python tools/make_table.py RUNS... --out DIR [--into PAGE.md]

RUNS are finished runs, their records, or folders that hold them at any depth. DIR gets table.md,
table.csv and table.tex; tools/report.py makes a page with curves and pictures of the same records.
"""

import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markdown import Markdown

from pretrain.run.stop import exit_status
from transfer.results.files import around_marks, put_into, write_tables
from transfer.results.record import find_results, read_result
from transfer.results.table import build_table

PUBLISHED = Path(__file__).resolve().parent.parent / "configs" / "published.json"


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs, their result.json, or folders that hold them at any depth."""
    out: Path
    """Folder for table.md, table.csv and table.tex."""
    published: Path = PUBLISHED
    """Published figures with their sources."""
    into: Path | None = None
    """A Markdown page that shows the table between two marks: it is brought up to date."""


def main(arguments: Arguments) -> None:
    """Write the table of the records, and print it."""
    runs = find_results(arguments.runs)
    if arguments.into is not None:
        around_marks(arguments.into)  # before anything is written
    table = build_table([read_result(run) for run in runs])
    markdown, _ = write_tables(table, arguments.out, arguments.published)
    if arguments.into is not None:
        put_into(arguments.into, table)
    if sys.stdout.isatty():
        Console().print(Markdown(markdown))
    else:  # whole lines: there is no width to fit into
        print(markdown)
    print(f"{len(runs)} records -> {arguments.out}/table.md, table.csv, table.tex")


if __name__ == "__main__":
    gc.disable()  # thousands of records are millions of objects, and none of them garbage
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
