"""Gains over scratch: with their intervals, and by class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from transfer.results.cells import Column, Row, Table
from transfer.results.record import Result
from transfer.results.report.runs import name_of
from transfer.results.statistics import Difference

PADDING = 0.08  # of an axis, on each side
LARGEST = 45  # percent of colour behind the largest difference of a class


@dataclass(frozen=True)
class Gain:
    """A difference from scratch in points, and where it lies on its axis in percent."""

    row: Row
    difference: Difference
    at: float
    left: float | None = None  # of the interval
    width: float | None = None


@dataclass(frozen=True)
class Axis:
    """The gains of one column on one axis; `ticks` are (percent, points)."""

    title: str
    zero: float
    ticks: list[tuple[float, float]]
    gains: list[Gain]


def gains(table: Table) -> list[Axis]:
    """Return an axis for each column that has a difference from scratch."""
    axes = []
    for column in table.columns:
        rows = list(_differences(table, column))
        if rows:
            axes.append(_axis(column.title, rows))
    return axes


def _differences(table: Table, column: Column) -> Iterator[tuple[Row, Difference]]:
    for row in table.rows:
        cell = row.cells.get(column)
        if cell and "scratch" in cell.differences:
            yield row, cell.differences["scratch"]


def _axis(title: str, rows: Sequence[tuple[Row, Difference]]) -> Axis:
    ends = [0.0]
    for _, found in rows:
        ends += [x for x in (found.points, found.low, found.high) if x is not None]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    low, span = low - PADDING * span, (1 + 2 * PADDING) * span

    def percent(points: float) -> float:
        return round(100 * (points - low) / span, 2)

    drawn = []
    for row, found in rows:
        left = width = None
        if found.low is not None and found.high is not None:
            left, width = percent(found.low), percent(found.high) - percent(found.low)
        drawn.append(Gain(row, found, percent(found.points), left, width))
    values = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, low + span)
    ticks = [(percent(value), float(value)) for value in values if low <= value <= low + span]
    return Axis(title, percent(0), ticks, drawn)


@dataclass(frozen=True)
class Classes:
    """The gain over scratch of each class; a row holds one value per head, None where unknown."""

    title: str
    heads: list[str]
    rows: list[tuple[str, list[float | None]]]
    largest: float

    def shade(self, value: float) -> int:
        """Return the percent of colour behind a value."""
        return round(LARGEST * abs(value) / self.largest)


def class_gains(table: Table) -> list[Classes]:
    """Return the classes' gains over scratch of each column whose records have them."""
    found = []
    for column in table.columns:
        heads, gained = [], []
        for row in table.rows:
            cell = row.cells.get(column)
            scratch = cell.baselines.get("scratch") if cell else None
            if cell and scratch:
                ours, theirs = (by_class(r, column.metric) for r in (cell.records, scratch))
                heads.append(name_of(row))
                gained.append({name: ours[name] - theirs[name] for name in ours if name in theirs})
        names = list(dict.fromkeys(name for gains in gained for name in gains))
        rows = [(name, [gains.get(name) for gains in gained]) for name in names]
        sizes = [abs(gain) for gains in gained for gain in gains.values()]
        if sizes:
            found.append(Classes(column.title, heads, rows, max(sizes) or 1.0))
    return found


def by_class(records: Sequence[Result], metric: str) -> dict[str, float]:
    """Return class -> mean over the records; the metric is "IoU" for mIoU."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in class_figures(record, metric).items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def class_figures(record: Result, metric: str) -> dict[str, float]:
    """Return class -> figure of a record; detection's have the class first."""
    inner = metric.removeprefix("m")
    nested: Mapping[str, Mapping[str, Any]] = record.per_class
    for name in (metric, inner):
        if name in nested and name not in record.dataset.classes:
            return dict(nested[name])
    values = {name: found.get(metric, found.get(inner)) for name, found in nested.items()}
    return {name: value for name, value in values.items() if value is not None}
