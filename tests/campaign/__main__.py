"""Run the campaign: python -m tests.campaign [PATTERN ...] [--jobs 2] [--every N] [--show].

Exit status 1 unless every case is clean: one error, with the expected words, and nothing written.
"""

import fnmatch
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import track

from tests.campaign.case import OUTCOMES, Outcome, run_cases
from tests.campaign.cases import all_cases
from tests.campaign.world import import_everything, make_world


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    patterns: Annotated[tuple[str, ...], tyro.conf.Positional] = ("*",)
    """Names of the cases to run, as shell patterns: 'detection-*'."""
    jobs: int = 2
    """Cases at once."""
    every: int = 1
    """Run each N-th case alone: a quick sample."""
    show: bool = False
    """Print what every tool said, not only where it was not clean."""


def main(arguments: Arguments) -> int:
    """Run the cases that match; return 1 if one of them was not clean."""
    chosen = arguments.patterns
    cases = [c for c in all_cases() if any(fnmatch.fnmatch(c.name, p) for p in chosen)]
    cases = cases[:: arguments.every]
    if not cases:
        raise SystemExit(f"error: no case matches {' '.join(chosen)}")
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        import_everything()
        world = make_world(Path(folder) / "world")
        outcomes = []
        running = run_cases(cases, world, Path(folder) / "cases", arguments.jobs)
        for outcome in track(running, "cases", total=len(cases), console=Console(stderr=True)):
            outcomes.append(outcome)
            if arguments.show or outcome.kind != "clean":
                print(told(outcome), flush=True)
    count = Counter(outcome.kind for outcome in outcomes)
    print(", ".join(f"{count[kind]} {kind}" for kind in OUTCOMES if count[kind]))
    print(f"{count['clean']} of {len(outcomes)} clean")
    return int(count["clean"] < len(outcomes))


def told(outcome: Outcome) -> str:
    """Return the case, what came of it and the end of what the tool said."""
    end = "\n".join(f"    {line}" for line in outcome.text.strip().splitlines()[-4:])
    head = f"{outcome.kind}: {outcome.case.name} ({outcome.seconds:.1f} s)"
    return f"{head}\n    expected: {outcome.case.expect}\n{end}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
