"""What a suite's launcher shows: the steps as they stand, a plan before it runs, failures after."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from transfer.suites.board import Board, State
from transfer.suites.cost import Cost, hours_in_words
from transfer.suites.launcher import Progress
from transfer.suites.steps import Step

COLORS = {
    "done": "green",
    "failed": "red",
    "running": "yellow",
    "elsewhere": "yellow",
    "queued": "dim",
    "blocked": "red",
    "waiting": "dim",
    "left out": "dim",
}
LOG_LINES = 15


def live_table(launcher: Progress, started: float) -> Table:
    """Return a table of the steps with their state, time and last line of output."""
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    count = f"{len(launcher.done)} of {len(launcher.only)} steps done"
    table = Table(title=f"{count}, {minutes} min {seconds} s", expand=True)
    table.add_column("step", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("state", width=9)
    table.add_column("s", width=5, justify="right")
    table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=4)
    for name in (n for n in launcher.board.steps if n in launcher.only):
        state = launcher.state(name)
        line = last_line(launcher.board.log(name)) if state == "running" else ""
        table.add_row(escaped(name), f"[{COLORS[state]}]{state}", elapsed(launcher, name), line)
    return table


def elapsed(launcher: Progress, name: str) -> str:
    """Return the seconds the step has run in this call, "" if it has not."""
    seconds = launcher.elapsed_s(name)
    return "" if seconds is None else f"{seconds:.0f}"


def last_line(log: Path) -> str:
    """Return the newest non-empty line of a log, without control characters."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 2000))
        text = stream.read().decode(errors="replace").replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip()]
    return escaped("".join(c for c in lines[-1] if c.isprintable())) if lines else ""


def escaped(text: str) -> str:
    """Return text that rich shows as it is."""
    return text.replace("[", r"\[")


def told(states: Mapping[str, State], names: Sequence[str]) -> list[str]:
    """Return a line a step: how it stands on disk, and why."""
    lines = []
    for name in names:
        state = states[name]
        why = f": {'; '.join(state.why)}" if state.why else ""
        lines.append(f"{state.kind:<7} {name}{why}")
    return lines


def planned(board: Board, names: Sequence[str], costs: Mapping[str, Cost]) -> list[str]:
    """Return what a dry run says of each step: state, hours, command, problems."""
    lines = []
    for name in names:
        step, state = board.steps[name], board.state(name)
        hours = "" if state.kind == "done" else f", {hours_in_words(costs.get(name))}"
        gpus = f", {step.gpus} GPUs" if step.gpus > 1 else ""
        lines += [f"{state.kind:<7} {name}{gpus}{hours}", f"        {by_hand(step)}"]
    return lines


def by_hand(step: Step) -> str:
    """Return the line that runs a step from a shell."""
    env = [f"{name}={value}" for name, value in step.env.items()]
    return shlex.join([*env, "python", *step.command])


def failures(launcher: Progress) -> list[str]:
    """Return the failed steps with the end of their logs, and what did not run for them."""
    lines = []
    for name, status in launcher.failed.items():
        log = launcher.board.log(name)
        if status is None:
            lines.append(f"failed before: {name}; see {log}, and give --retry to run it again")
            continue
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        lines.append(f"error: {name} ended with status {status}; the end of {log}:\n{tail}\n")
    blocked = [name for name in launcher.board.steps if launcher.state(name) == "blocked"]
    if blocked:
        lines.append(f"not run, since a step they need failed: {', '.join(blocked)}")
    return lines
