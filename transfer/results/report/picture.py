"""Gains as one PNG, for a README or a slide: intervals above, and below what was varied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from pretrain.files.lineage import CONTROL
from pretrain.files.write import atomic_write
from transfer.results.cells import METHODS, Cell, Column, Row, Table
from transfer.results.report.scaling import LABELS, LENGTH, Line, Scale, axis_of, lines, place_of
from transfer.results.statistics import Difference

ENDING = f"+{CONTROL}"  # ends the name of a control's method
COLORS = ("#0b66a8", "#c05a10", "#1d7a55", "#8a3f9c", "#a98600", "#b23a5c")
INK = "#24292f"
PANEL_INCHES = (2.6, 2.1)
LEGEND_INCHES = 2.4
ROW_INCHES = 0.34  # of a row of intervals
AGAINST = {"scratch": "over scratch", "control": "over the same weights, shuffled"}
DOTS_PER_INCH = 160
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.size": 8.5,
    "grid.alpha": 0.2,
    "ytick.major.size": 0,
}


@mpl.rc_context(STYLE)
def draw_gains(table: Table, path: Path) -> None:
    """Write the picture. Raises ValueError for a table without a difference from scratch."""
    rows = {column: _compared(table, column) for column in table.columns}
    columns = [column for column, found in rows.items() if found]
    if not columns:
        raise ValueError("no run has another from scratch beside it: there is no gain to draw")
    dials = [
        (scale, column, found)
        for scale in (LENGTH, LABELS)
        for column in columns
        if (found := lines(table, column, scale))
    ]
    below = [dials[i : i + len(columns)] for i in range(0, len(dials), len(columns))]
    most = max(len(rows[column]) for column in columns)
    heights = [0.9 + ROW_INCHES * most, *(PANEL_INCHES[1] for _ in below)]
    width = PANEL_INCHES[0] * len(columns) + LEGEND_INCHES
    canvas = Figure(figsize=(width, sum(heights)), layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    grid = canvas.subplots(len(heights), len(columns), squeeze=False, height_ratios=heights)
    colors = _colors(table)
    for j, column in enumerate(columns):
        _intervals(grid[0][j], column.title, rows[column], colors, named=j == 0)
    for panels, row in zip(below, grid[1:], strict=True):
        for axis, (scale, column, found) in zip(row, panels, strict=False):
            _lines(axis, scale, column, found, colors)
        for axis in row[len(panels) :]:
            axis.set_axis_off()
        _legend(row, spare=row[len(panels)] if len(panels) < len(row) else None)
    _legend(grid[0])
    atomic_write(path, lambda to: canvas.savefig(to, format="png", dpi=DOTS_PER_INCH))


def _compared(table: Table, column: Column) -> list[tuple[Row, Cell]]:
    """Return the rows of pretrained weights that stand beside scratch.

    Controls have no row of their own, and of rows that differ only in what a dial varies, the one
    with the longest pretraining and the most labels stands for all.
    """
    last: dict[tuple[Any, ...], tuple[tuple[float, int], Row, Cell]] = {}
    for row in table.rows:
        cell = row.cells.get(column)
        if cell and cell.records and "scratch" in cell.differences and ENDING not in row.method:
            place = place_of(row, cell)
            reach = (place.length[0] if place.length else 0.0, place.labels)
            key = (row.method, row.backbone, place.setting)
            if key not in last or reach > last[key][0]:
                last[key] = (reach, row, cell)
    return [(row, cell) for _, row, cell in last.values()]


def _colors(table: Table) -> dict[str, str]:
    methods = sorted({row.method.removesuffix(ENDING) for row in table.rows} - {"scratch"})
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(methods)}


def _intervals(
    axis: Axes, title: str, rows: Sequence[tuple[Row, Cell]], colors: dict[str, str], named: bool
) -> None:
    """Draw each row's differences with their 95 % intervals."""
    for i, (row, cell) in enumerate(rows):
        for k, (kind, words) in enumerate(AGAINST.items()):
            found = cell.differences.get(kind)
            if found is not None:
                face = "white" if k else colors[row.method]
                label = words if i == 0 else None
                axis.errorbar(
                    found.points,
                    i + (k - 0.5) * 0.3,
                    xerr=[[half] for half in _halves(found)],
                    fmt="s" if k else "o",
                    color=colors[row.method],
                    markerfacecolor=face,
                    markersize=5,
                    capsize=2.5,
                    label=label,
                )
    axis.axvline(0, color=INK, linewidth=0.9)
    axis.set_yticks(
        range(len(rows)), [_name(row) for row, _ in rows] if named else [""] * len(rows)
    )
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title(title)
    axis.set_xlabel("points, 95 % interval")
    axis.grid(axis="x")


def _halves(found: Difference) -> tuple[float, float]:
    if found.low is None or found.high is None:
        return 0.0, 0.0
    return found.points - found.low, found.high - found.points


def _name(row: Row) -> str:
    method = METHODS.get(row.method, row.method)
    frozen = any(r.train.get("freeze") == "backbone" for c in row.cells.values() for r in c.records)
    return f"{method}, frozen" if frozen else method


def _lines(
    axis: Axes, scale: Scale, column: Column, found: Sequence[Line], colors: dict[str, str]
) -> None:
    """Draw the gains of each method against what was varied."""
    axis.axhline(0, color=INK, linewidth=0.9)
    for line in found:
        method = line.place.method.removesuffix(ENDING)
        shuffled = method != line.place.method
        halves = [_halves(d) for d in line.differences]
        axis.errorbar(
            line.x,
            [d.points for d in line.differences],
            yerr=list(zip(*halves, strict=True)),
            fmt="s--" if shuffled else "o-",
            color=colors[method],
            markerfacecolor="white" if shuffled else colors[method],
            markersize=5,
            capsize=2.5,
            label=line.label,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(axis_of(scale, found))
    axis.set_ylabel(f"gain over scratch, {column.title}")
    axis.grid(axis="y")


def _legend(row: Sequence[Axes], spare: Axes | None = None) -> None:
    """Explain a row's marks once, in a `spare` panel or beside the last one."""
    known: dict[str, Any] = {}
    for panel in row:
        handles, labels = panel.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    if known:
        axis, x = (row[-1], 1.0) if spare is None else (spare, 0.0)
        axis.legend(
            known.values(), known.keys(), loc="upper left", bbox_to_anchor=(x, 1.0), frameon=False
        )
