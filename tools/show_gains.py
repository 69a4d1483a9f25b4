"""Draw what pretraining gained: over scratch, over shuffled weights, and against what was varied.

    python tools/show_gains.py RUNS... --to FILE.png

RUNS are finished runs, their records, or folders that hold them at any depth. Each metric has a
panel with differences and their 95 % intervals; where runs differ in the length of pretraining or
in the number of labels, a row of panels shows the gain against it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs, their result.json, or folders that hold them at any depth."""
    to: Path
    """The picture."""


def main(arguments: Arguments) -> None:
    """Write the picture and say where."""
    from transfer.results.record import find_results, read_result
    from transfer.results.report.picture import draw_gains
    from transfer.results.table import build_table

    if arguments.to.suffix != ".png":
        raise ValueError(f"--to {arguments.to}: the picture is a .png")
    records = [read_result(run) for run in find_results(arguments.runs)]
    draw_gains(build_table(records), arguments.to)
    print(arguments.to)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
