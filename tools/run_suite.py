"""Run a suite: make its data, pretrain, train every cell, draw the table.

    python tools/run_suite.py configs/suites/NAME.py --out DIR [--jobs N] [--gpus 0,1,2,3]

Runs what is missing or out of date and nothing else; killed at any moment, the same command
finishes it, and several at once share the work. See docs/suites.md.
"""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from pretrain.files.write import refuse_file
from pretrain.run.options import parse_key_value
from pretrain.run.stop import DONE, FAILED, REFUSED, exit_status
from transfer.suites.board import Board
from transfer.suites.cost import costs, in_words
from transfer.suites.inputs import fetch_release, weights_file
from transfer.suites.launcher import Launcher, Progress
from transfer.suites.local import LocalExecutor, device_name, visible_gpus
from transfer.suites.slurm import SlurmLauncher
from transfer.suites.steps import Step, plan
from transfer.suites.suite import Control, Released, Suite, load_suite
from transfer.suites.table import published_rows, write_table
from transfer.suites.view import failures, live_table, planned, told

Patterns = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Arguments:
    """The command line. A PATTERN is a part of a step's name, or a shell pattern of all of it."""

    suite: Annotated[Path, tyro.conf.Positional]
    """A file that defines `suite`, see configs/suites."""
    out: Path
    """Folder for data, encoders, runs, logs and the table."""
    set: Patterns = ()
    """NAME=VALUE for a suite that is a function of arguments."""
    jobs: int | None = None
    """Steps that run at once; default: one, or as many as there are GPUs. They share the cores."""
    gpus: str | None = None
    """GPUs that the steps share, e.g. 0,1,2,3; default: all of this machine; "none": none."""
    gpus_per_run: int | None = None
    """GPUs of each run, in place of what the suite says."""
    executor: Literal["local", "slurm"] = "local"
    """Run steps here, or as jobs of a Slurm cluster; give --slurm time=MINUTES there."""
    slurm: Patterns = ()
    """NAME=VALUE for sbatch as submitit spells it: partition, account, time, mem, cpus_per_task."""
    only: Patterns = ()
    """Only the steps that fit PATTERN, and those that they need."""
    retry: bool = False
    """Run failed steps again; they are left alone otherwise."""
    redo: Patterns = ()
    """Run the steps that fit PATTERN, and all that build on them, again; the old are set aside."""
    accept: Patterns = ()
    """Take stale steps that fit PATTERN as done, whatever has changed; run nothing."""
    status: bool = False
    """Say how every step stands, run nothing."""
    explain: Patterns = ()
    """Say why the steps that fit PATTERN would run ('*' for all), run nothing."""
    dry_run: bool = False
    """Print steps, hours, commands, published rows and all that is missing; run nothing."""
    price: float | None = None
    """Of a device for an hour, for --dry-run."""
    tflops: float | None = None
    """TFLOP/s that a device keeps up in training: --dry-run estimates from it what no run tells."""
    records: tuple[Path, ...] = ()
    """Folders of other suites, whose finished runs tell --dry-run how long steps take."""


def main(arguments: Arguments) -> int:
    """Do what the command line says; return the exit status."""
    check(arguments)
    suite, out = load_suite(arguments.suite, arguments.set), arguments.out.resolve()
    board = Board(plan(suite, out, arguments.gpus_per_run), out)
    names = chosen(board, arguments.only)
    if arguments.accept:
        accepted = board.accept(board.matching(arguments.accept))
        print(*(f"accepted: {name}" for name in accepted or ["nothing"]), sep="\n")
        return DONE
    if arguments.status or arguments.explain:
        names = chosen(board, arguments.explain) if arguments.explain else names
        print(*told(board.states(), names), sep="\n")
        return DONE
    if arguments.dry_run:
        return dry_run(board, names, suite, arguments)
    if fetch_releases(board, names):
        board = Board(plan(suite, out, arguments.gpus_per_run), out)
    problems = problems_of(board, names)
    if problems:
        raise ValueError("\nerror: ".join(problems))
    return run_all(board, names, suite, arguments)


def check(arguments: Arguments) -> None:
    """Raise ValueError for an option that has no meaning."""
    if arguments.out == Path():
        raise ValueError("--out is the current folder: give a folder of the suite's own")
    refuse_file(arguments.out)
    for name in ("jobs", "gpus_per_run", "price", "tflops"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    for place in arguments.records:
        if not place.is_dir():
            raise ValueError(f"--records {place}: there is no such folder")


def chosen(board: Board, patterns: tuple[str, ...]) -> list[str]:
    """Return the steps that fit, with all that they need, in their order; all without patterns."""
    fit = board.with_needs(board.matching(patterns)) if patterns else set(board.steps)
    return [name for name in board.steps if name in fit]


def problems_of(board: Board, names: list[str]) -> list[str]:
    """Return what keeps the steps that are not done from running."""
    todo = [name for name in names if board.state(name).kind != "done"]
    return list(dict.fromkeys(p for name in todo for p in board.steps[name].problems))


def fetch_releases(board: Board, names: list[str]) -> bool:
    """Fetch the released weights that steps wait for, if for nothing else; return whether any was.

    Raises FileNotFoundError that says where to get one that could not be fetched.
    """
    missing = {}
    for release in {released_of(board.steps[n]) for n in names if board.state(n).kind != "done"}:
        try:
            if release is not None:
                weights_file(release, Path.cwd())
        except FileNotFoundError as error:
            missing[release] = str(error)
    if {*problems_of(board, names)} - {*missing.values()}:
        return False
    for release in missing:
        fetch_release(release, Path.cwd())
    return bool(missing)


def released_of(step: Step) -> Released | None:
    """Return the release that a step begins with, or the control of one."""
    weights = step.cell.weights if step.cell else getattr(step.stage, "of", None)
    weights = weights.of if isinstance(weights, Control) else weights
    return weights if isinstance(weights, Released) else None


def dry_run(board: Board, names: list[str], suite: Suite, arguments: Arguments) -> int:
    """Print what would run, and what is missing; return REFUSED if something is."""
    steps = [board.steps[n] for n in names if board.state(n).kind != "done"]
    places = [*([board.out] if board.out.is_dir() else []), *arguments.records]
    device = device_name(bool(gpus_of(arguments)))
    found = costs(steps, places, device, arguments.tflops)
    print(*planned(board, names, found), sep="\n")
    print(f"\n{len(steps)} of {len(names)} steps to run; {in_words(steps, found, arguments.price)}")
    rows = published_rows(board, suite.published)
    if rows:
        print(f"\nthe published table beside it:\n\n{rows}")
    problems = problems_of(board, names)
    for problem in problems:
        print(f"missing: {problem}")
    return REFUSED if problems else DONE


def run_all(board: Board, names: list[str], suite: Suite, arguments: Arguments) -> int:
    """Run the steps and write the table, whatever failed; return FAILED if something did."""
    board.out.mkdir(parents=True, exist_ok=True)
    again = board.with_dependents(board.matching(arguments.redo))
    board.forget(again, aside=True)
    if arguments.retry:
        board.forget([n for n in names if board.state(n).kind == "failed"], aside=False)
    launcher = launcher_of(board, [*names, *again], arguments)
    try:
        show(launcher)
    finally:
        launcher.stop()
    for line in failures(launcher):
        print(line, file=sys.stderr)
    finish(board, suite)
    return DONE if launcher.done >= launcher.only else FAILED


def launcher_of(board: Board, names: list[str], arguments: Arguments) -> Progress:
    """Return what runs the steps, here or on a cluster."""
    if arguments.executor == "slurm":
        settings = dict(map(parse_key_value, arguments.slurm))
        return SlurmLauncher(board, names, settings, on_gpus=arguments.gpus != "none")
    executor = LocalExecutor(arguments.jobs, gpus_of(arguments))
    executor.require_fit(board.steps[name] for name in names)
    return Launcher(board, executor, names)


def gpus_of(arguments: Arguments) -> tuple[str, ...]:
    """Return the pool of GPUs."""
    if arguments.gpus is None:
        return visible_gpus()
    if arguments.gpus == "none":
        return ()
    return tuple(name.strip() for name in arguments.gpus.split(",") if name.strip())


def show(launcher: Progress) -> None:
    """Run all steps, with a live view of them."""
    if launcher.finished:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with Live(get_renderable=lambda: live_table(launcher, started), refresh_per_second=1):
        launcher.run()


def finish(board: Board, suite: Suite) -> None:
    """Write and print the table."""
    Console().print(Markdown(write_table(board, suite.published)))
    found = board.records().values()
    page = f"; with pictures: {board.out / 'report.html'}" if any(found) else ""
    count = f"{sum(map(bool, found))} of {len(found)} records"
    print(f"{count}; table: {board.out / 'table.md'}{page}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
