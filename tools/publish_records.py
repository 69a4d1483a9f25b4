"""Copy the records of finished runs for others to read, without the paths of this machine.

    python tools/publish_records.py RUNS --to DIR [--only PATTERN ...] [--skip PATTERN ...]

Every result.json and evals/*.json below RUNS is validated and written to the same place below DIR,
and nothing else. Weights are named from RUNS; in commands RUNS is written by its last part. What
lies in DIR already is left as it is; if it says something else that is an error, unless --replace
is given.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status
from transfer.results.publish import publish

Patterns = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    runs: Annotated[Path, tyro.conf.Positional]
    """A folder that holds finished runs at any depth."""
    to: Path
    """Folder of the published records."""
    only: Patterns = ()
    """Only records whose path below RUNS fits PATTERN, e.g. '*freeze*'; default: all."""
    skip: Patterns = ()
    """No records whose path below RUNS fits PATTERN."""
    replace: bool = False
    """Write over published records that say something else."""


def main(arguments: Arguments) -> None:
    """Publish the records and say how many are new."""
    written, kept = publish(
        arguments.runs,
        arguments.to,
        only=arguments.only or ("*",),
        skip=arguments.skip,
        replace=arguments.replace,
    )
    print(f"{written} records -> {arguments.to}; {kept} were there already")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
