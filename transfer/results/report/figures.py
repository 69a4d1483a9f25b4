"""Figures of the report as inline SVG, drawn by matplotlib in the colours of the page.

Text and axes take `currentColor`, marks take the page's CSS variables, so that one figure serves
light, dark and printed pages. A figure is one panel: the page lays out as many as fit side by side.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

INK = "#010203"  # replaced by currentColor
SERIES = 8  # colours --series-0 ... of style.css
SIZE_INCHES = (3.5, 2.3)
FEW_CURVES = 4  # drawn at full strength; more are seeds, and lie over one another
COLORED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
STYLE: Any = {
    **dict.fromkeys((*COLORED, "grid.color"), INK),
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "ytick.major.size": 0,
    "xtick.major.size": 2.5,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Curve:
    """A quantity over another; x and y of equal length. `half` are half widths of intervals."""

    label: str
    series: int
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    half: Sequence[float] | None = None


@dataclass(frozen=True)
class Figure:
    """One panel, and the curves that a legend explains: (label, series, dashed)."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, int, bool], ...]


def signed(points: float) -> str:
    """Return a difference with its sign and one decimal; what rounds to zero has no sign."""
    return "0.0" if abs(points) < 0.05 else f"{points:+.1f}"


def color(series: int) -> str:
    """Return the stand-in that becomes var(--series-N)."""
    return f"#0102{16 + series % SERIES:02x}"


def legend_of(figures: Sequence[Figure]) -> list[tuple[str, int, bool]]:
    """Return the entries of several figures, each once."""
    return list(dict.fromkeys(entry for figure in figures for entry in figure.legend))


@mpl.rc_context(STYLE)
def curves(title: str, found: Sequence[Curve], x_label: str, description: str) -> Figure:
    """Draw curves over one axis."""
    canvas, axis = _panel()
    alpha = 1.0 if len(found) <= FEW_CURVES else 0.7
    for curve in found:
        style = (0, (4, 2.5)) if curve.dashed else "-"
        axis.plot(curve.x, curve.y, linestyle=style, color=color(curve.series), alpha=alpha)
    axis.set_xlabel(x_label)
    axis.grid(axis="y")
    axis.margins(x=0.01)
    return _figure(canvas, title, found, description)


@mpl.rc_context(STYLE)
def scaling(title: str, found: Sequence[Curve], x_label: str) -> Figure:
    """Draw the gain over scratch against what was varied, on a logarithmic axis."""
    canvas, axis = _panel()
    axis.axhline(0, color=INK, linewidth=0.8)
    for curve in found:
        mark = color(curve.series)
        axis.errorbar(curve.x, curve.y, curve.half, fmt="o-", color=mark, markersize=5, capsize=3)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(x_label)
    axis.grid(axis="y")
    axis.margins(0.1)
    return _figure(canvas, title, found, f"Gain over scratch against {x_label}: {title}")


def _panel() -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasSVG(canvas)
    return canvas, canvas.subplots()


def _figure(canvas: Canvas, title: str, found: Sequence[Curve], description: str) -> Figure:
    legend = tuple(dict.fromkeys((c.label, c.series % SERIES, c.dashed) for c in found))
    return Figure(title, Markup(_svg(canvas, description)), legend)


def _svg(canvas: Canvas, description: str) -> str:
    """Return the figure as an <svg> element: no fixed size, the page's colours, a description."""
    text = io.StringIO()
    canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"#0102([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16) - 16})", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
