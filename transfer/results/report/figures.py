"""Figures of the report as inline SVG, drawn by matplotlib in the colours of the page.

Text and axes take `currentColor`, marks take the page's CSS variables, so that one figure serves
light, dark and printed pages.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"  # replaced by currentColor
SERIES = 8  # colours --series-0 ... of style.css
COLORED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
STYLE: Any = {
    **dict.fromkeys((*COLORED, "grid.color"), INK),
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Gain:
    """A difference from scratch in points; `half_width` of its 95 % interval, None for one seed."""

    label: str
    series: int
    points: float
    half_width: float | None = None


@dataclass(frozen=True)
class Curve:
    """A quantity over training; x and y of equal length."""

    label: str
    series: int
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def signed(points: float) -> str:
    """Return a difference with its sign and one decimal; what rounds to zero has no sign."""
    return "0.0" if abs(points) < 0.05 else f"{points:+.1f}"


def color(series: int) -> str:
    """Return the stand-in that becomes var(--series-N)."""
    return f"#0102{16 + series % SERIES:02x}"


@mpl.rc_context(STYLE)
def gains(panels: Mapping[str, Sequence[Gain]]) -> str:
    """Draw one panel per column: dots at the gain over scratch, bars for 95 % intervals."""
    rows = max(map(len, panels.values()))
    figure, axes = _panels(len(panels), width=3.1, height=0.8 + 0.34 * rows)
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        axis.axvline(0, color=INK, linewidth=0.8)
        for y, gain in enumerate(found):
            mark = color(gain.series)
            axis.errorbar(
                gain.points,
                y,
                xerr=gain.half_width,
                fmt="o",
                markersize=6,
                capsize=3,
                color=mark,
                markerfacecolor="none" if gain.half_width is None else mark,
            )
            text = axis.annotate(signed(gain.points), (gain.points, y), (0, 7), ha="center")
            text.set(anncoords="offset points", fontsize=8)
        axis.set_yticks(range(len(found)), [g.label for g in found])
        axis.set_ylim(len(found) - 0.4, -0.7)
        axis.margins(x=0.25)
        axis.set_title(title, fontsize=9, loc="left")
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    return _svg(figure, "Gain over training from scratch, in points")


@mpl.rc_context(STYLE)
def curves(panels: Mapping[str, Sequence[Curve]], x_label: str, description: str) -> str:
    """Draw one panel per title with its curves; panels of equal curves share one legend below."""
    figure, axes = _panels(len(panels), width=3.4, height=2.5)
    entries: dict[str, Any] = {}
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        for curve in found:
            style = "--" if curve.dashed else "-"
            (line,) = axis.plot(curve.x, curve.y, style, color=color(curve.series))
            entries.setdefault(curve.label, line)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xlabel(x_label)
        axis.grid(axis="y")
    where: Any = "outside lower left"  # matplotlib's types do not know the outside places
    figure.legend(list(entries.values()), list(entries), loc=where, ncols=3, fontsize=8)
    return _svg(figure, description)


@mpl.rc_context(STYLE)
def scaling(panels: Mapping[str, Sequence[Curve]]) -> str:
    """Draw the gain over scratch against the encoder's size in millions, on a logarithmic axis."""
    figure, axes = _panels(len(panels), width=3.4, height=2.5)
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        axis.axhline(0, color=INK, linewidth=0.8)
        for curve in found:
            axis.plot(curve.x, curve.y, "o-", color=color(curve.series), label=curve.label)
        axis.set_xscale("log")
        axis.set_xlabel("parameters of the encoder (M)")
        axis.set_title(title, fontsize=9, loc="left")
        axis.grid(axis="y")
        axis.legend(fontsize=8)
    return _svg(figure, "Gain over scratch against the size of the encoder")


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _svg(figure: Figure, description: str) -> str:
    """Return the figure as an <svg> element: no fixed size, the page's colours, a description."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"#0102([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16) - 16})", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
