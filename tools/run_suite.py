"""Run a suite: make its data, pretrain, train every cell, draw the table.

    python tools/run_suite.py configs/suites/NAME.py --out DIR [--jobs N]

Runs what is missing and nothing else; killed at any moment, the same command finishes it.
"""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table

from pretrain.run.lock import locked
from pretrain.run.stop import exit_status
from transfer.results.record import RECORD_NAME
from transfer.suites.local import Runner
from transfer.suites.steps import plan
from transfer.suites.suite import load_suite

PUBLISHED = Path(__file__).resolve().parent.parent / "configs" / "published.json"
COLORS = {"done": "green", "failed": "red", "running": "yellow", "blocked": "red", "waiting": "dim"}
LOG_LINES = 15


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    suite: Annotated[Path, tyro.conf.Positional]
    """A file that defines `suite`, see configs/suites."""
    out: Path
    """Folder for data, encoders, runs, logs and the table."""
    jobs: int = 1
    """Steps that run at once; the processor's cores are shared out among them."""
    dry_run: bool = False
    """Print the steps and their commands, run nothing."""


def main(arguments: Arguments) -> int:
    """Run the suite, or print its steps; return the exit status."""
    if arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    steps = plan(load_suite(arguments.suite), arguments.out.resolve())
    if arguments.dry_run:
        for step in steps:
            state = "done" if step.product.exists() else "todo"
            print(f"{state}  {step.name}\n      {' '.join(step.command)}")
        return 0
    with locked(arguments.out):
        runner = Runner(steps, arguments.out.resolve(), arguments.jobs)
        run(runner)
        if runner.failed:
            return report_failures(runner)
        finish([s.product for s in steps if s.product.name == RECORD_NAME], arguments.out)
    return 0


def run(runner: Runner) -> None:
    """Run all steps, with a live view of them."""
    if len(runner.done) == len(runner.steps):
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        with Live(get_renderable=lambda: view(runner, started), refresh_per_second=1):
            runner.poll()
            while not runner.finished:
                time.sleep(0.2)
                runner.poll()
    finally:
        runner.stop()


def view(runner: Runner, started: float) -> Table:
    """Return a table of the steps with their state, time and last line of output."""
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    title = f"{len(runner.done)} of {len(runner.steps)} steps done, {minutes} min {seconds} s"
    table = Table(title=title, expand=True)
    table.add_column("step", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("state", width=8)
    table.add_column("s", width=5, justify="right")
    table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=4)
    for name in runner.steps:
        state = runner.state(name)
        line = last_line(runner.log(name)) if state == "running" else ""
        table.add_row(name, f"[{COLORS[state]}]{state}", elapsed(runner, name), line)
    return table


def elapsed(runner: Runner, name: str) -> str:
    """Return the seconds the step has run in this call, "" if it has not."""
    if name in runner.running:
        return f"{time.monotonic() - runner.running[name][1]:.0f}"
    return f"{runner.seconds[name]:.0f}" if name in runner.seconds else ""


def last_line(log: Path) -> str:
    """Return the newest non-empty line of a log, without control characters."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 2000))
        text = stream.read().decode(errors="replace").replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(c for c in lines[-1] if c.isprintable()).replace("[", r"\[") if lines else ""


def report_failures(runner: Runner) -> int:
    """Print the failed steps with the end of their logs; return 1."""
    for name, status in runner.failed.items():
        log = runner.log(name)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        print(
            f"error: {name} ended with status {status}; the end of {log}:\n{tail}\n",
            file=sys.stderr,
        )
    blocked = [name for name in runner.steps if runner.state(name) == "blocked"]
    if blocked:
        print(f"not run, since a step they need failed: {', '.join(blocked)}", file=sys.stderr)
    return 1


def finish(records: list[Path], out: Path) -> None:
    """Write and print the table of the suite's records."""
    from transfer.results.report import write_report

    markdown = write_report([path.parent for path in records], out, PUBLISHED)
    Console().print(Markdown(markdown))
    print(
        f"{len(records)} records; table: {out / 'table.md'}; with pictures: {out / 'report.html'}"
    )


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
