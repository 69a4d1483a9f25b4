"""What the runs of a report cost, where and when they ran, and the commands that repeat them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from transfer.results.record import Result
from transfer.results.report.runs import Run, trainings
from transfer.results.table import run_notes


@dataclass(frozen=True)
class Total:
    """Hours of one kind of device over all runs."""

    device: str
    hours: float
    runs: int


@dataclass(frozen=True)
class Cost:
    """The line of one run: what it took, where it ran, what it says of itself."""

    run: Run
    device_hours: float
    devices: int | None
    when: datetime | None
    notes: list[str]


@dataclass(frozen=True)
class Repeat:
    """How the runs of a cell are made again."""

    title: str
    config: str  # the shipped config; "" for one of the user's own
    changes: list[str]  # of its settings
    commands: list[tuple[int, str | None]]  # (seed, command)
    protocol: str


def device_hours(record: Result) -> float:
    """Return hours times devices; one device where the record does not say how many."""
    return record.cost.hours * (record.cost.devices or 1)


def hours_text(hours: float) -> str:
    """Return hours with two digits that count, or whole ones from ten on."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2f}" if hours >= 1 else f"{hours:.2g}"


def totals(runs: Sequence[Run]) -> list[Total]:
    """Return the hours of training by kind of device, each training once."""
    found: dict[str, list[float]] = {}
    for run in trainings(runs):
        found.setdefault(run.record.environment.device, []).append(device_hours(run.record))
    return [Total(device, sum(hours), len(hours)) for device, hours in sorted(found.items())]


def costs(runs: Sequence[Run]) -> list[Cost]:
    """Return a line for each run."""
    return [
        Cost(
            run,
            device_hours(run.record),
            run.record.cost.devices,
            run.record.evaluated_at,
            run_notes(run.record),
        )
        for run in runs
    ]


def days(runs: Sequence[Run]) -> str:
    """Return the first and the last day on which a run was evaluated; "" where no record says."""
    found = sorted(run.record.evaluated_at.date() for run in runs if run.record.evaluated_at)
    if not found:
        return ""
    return " to ".join(dict.fromkeys((found[0].isoformat(), found[-1].isoformat())))


def commits(runs: Sequence[Run]) -> list[str]:
    """Return the commits that the runs were made at, marked where files differed."""
    places = {(run.record.environment.commit, run.record.environment.dirty) for run in runs}
    return sorted(commit[:10] + " with changes" * bool(dirty) for commit, dirty in places)


def repeats(runs: Sequence[Run]) -> list[Repeat]:
    """Return how each task and evaluation of these runs is made again."""
    places: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        record = run.record
        places.setdefault((record.task, record.dataset.name, record.eval_hash), []).append(run)
    return [_repeat(task, dataset, found) for (task, dataset, _), found in places.items()]


def _repeat(task: str, dataset: str, runs: Sequence[Run]) -> Repeat:
    record = runs[0].record
    changes: list[str] = []
    if record.config:
        changes = [*_changes(record.config.train, ""), *_changes(record.config.eval, "evaluation ")]
    later = f", evaluation {record.eval_hash}" if runs[0].evaluation else ""
    return Repeat(
        f"{task} on {dataset}{later}",
        record.config.name if record.config else "",
        changes,
        [(run.record.seed, run.record.command) for run in runs],
        record.protocol_hash,
    )


def _changes(changed: Mapping[str, Sequence[object]], what: str) -> list[str]:
    return [f"{what}{key}: {old!r} → {new!r}" for key, (old, new) in changed.items()]
