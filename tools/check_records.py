"""Check a tree of records: edited, duplicate, repeated, unfinished and unlike ones, with the fix.

    python tools/check_records.py RUNS...

Status 0 if nothing is wrong, 1 if something is, 2 for a place that is not there.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status
from transfer.results.checks import check_records


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs, records, or folders that hold them at any depth."""


def main(arguments: Arguments) -> int:
    """Print what is wrong and return the exit status."""
    if not arguments.runs:
        raise ValueError("give at least one run, record or folder of them")
    good, findings = check_records(arguments.runs)
    for finding in findings:
        print(finding)
    print(f"{good} good records, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
