"""Records -> table.md, table.csv, table.tex and report.html, a page that needs no other file."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pretrain.run import folder
from transfer.results import table
from transfer.results.published import beside_published
from transfer.results.record import Result, read_result
from transfer.results.report import figures

PICTURE_WIDTH_PX = 1400
MAX_CURVE_POINTS = 400
GREY = 3  # --series-3 of style.css


@dataclass(frozen=True)
class Run:
    """A record and the folder it lies in."""

    folder: Path
    record: Result

    @property
    def method(self) -> str:
        """Name of the method, as in the tables."""
        return table.METHODS.get(self.record.method, self.record.method)

    @property
    def label(self) -> str:
        """Name of the method and the backbone."""
        return f"{self.method}, {self.record.backbone}"


def write_report(runs: Sequence[Path], out: Path, published: Path) -> str:
    """Write table.md, .csv, .tex and report.html for the records at `runs`; return the Markdown.

    Raises ValueError or OSError if a record cannot be read or a file cannot be written.
    """
    found = [Run(run if run.is_dir() else run.parent, read_result(run)) for run in runs]
    made = table.build_table([run.record for run in found])
    beside = beside_published(made, json.loads(published.read_text()))
    markdown = table.to_markdown(made)
    if beside:
        markdown += f"\n## Beside published figures\n\n{beside}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(markdown)
    (out / "table.csv").write_text(table.to_csv(made))
    (out / "table.tex").write_text(table.to_latex(made))
    (out / "report.html").write_text(render(found, made, beside))
    return markdown


def render(runs: Sequence[Run], made: table.Table, beside: str) -> str:
    """Return the page. Every text from a record is escaped by the template."""
    methods = sorted({run.record.method for run in runs} - {"scratch"})
    series = {"scratch": GREY, **{name: i + (i >= GREY) for i, name in enumerate(methods)}}
    environment = Environment(
        loader=PackageLoader("transfer.results.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = figures.signed
    return environment.get_template("template.html").render(
        style=Markup(_asset("style.css")),
        script=Markup(_asset("table.js")),
        table=made,
        rows=[_row(row, made) for row in made.rows],
        beside=_grid(beside),
        summary=summary(runs, made),
        gains=_gains(made, series),
        scaling=_scaling(runs, made, series),
        curves=_curves(runs, series),
        pretraining=_pretraining_curves(runs, series),
        classes=class_differences(runs),
        predictions=_pictures(runs, "predictions.png"),
        reconstructions=_reconstructions(runs),
        runs=runs,
    )


def summary(runs: Sequence[Run], made: table.Table) -> str:
    """Say in one sentence what the table holds and how far it may be trusted."""
    seeds = {cell.n for row in made.rows for cell in row.cells.values()}
    count = f"{len(runs)} runs, {len(made.rows)} rows."
    if seeds == {1}:
        return f"{count} One seed each: no difference here is more than a hint."
    return f"{count} Cells are means over seeds, ± one standard deviation; n = {_span(seeds)}."


def _span(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


def _row(row: table.Row, made: table.Table) -> dict[str, Any]:
    cells = [row.cells.get(column) for column in made.columns]
    return {"method": table.METHODS.get(row.method, row.method), "row": row, "cells": cells}


def _grid(markdown: str) -> list[list[str]]:
    """Split the Markdown table of published figures into rows of cells, header first."""
    lines = [line for line in markdown.splitlines() if line.strip("|-: ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _gains(made: table.Table, series: Mapping[str, int]) -> Markup:
    panels = {
        column.title: [
            figures.Gain(
                f"{table.METHODS.get(row.method, row.method)} {row.label}",
                series[row.method],
                cell.delta,
            )
            for row in made.rows
            if (cell := row.cells.get(column)) and cell.delta is not None
        ]
        for column in made.columns
    }
    panels = {title: found for title, found in panels.items() if found}
    return Markup(figures.gains(panels)) if panels else Markup("")


def _scaling(runs: Sequence[Run], made: table.Table, series: Mapping[str, int]) -> Markup:
    """Draw gain against size for each column in which a method has two sizes or more."""
    known = {
        table.backbone_name(r.record): r.record for r in runs if timm.is_model(r.record.backbone)
    }
    sizes = {name: encoder_millions(record) for name, record in known.items()}
    panels = {}
    for column in made.columns:
        curves = []
        for method in sorted({row.method for row in made.rows} - {"scratch"}):
            points = sorted(
                (sizes[row.backbone], cell.delta)
                for row in made.rows
                if row.method == method
                and (cell := row.cells.get(column))
                and cell.delta is not None
                and row.backbone in sizes
            )
            if len({size for size, _ in points}) > 1:
                x, y = zip(*points, strict=True)
                label = table.METHODS.get(method, method)
                curves.append(figures.Curve(label, series[method], x, y))
        if curves:
            panels[column.title] = curves
    return Markup(figures.scaling(panels)) if panels else Markup("")


def encoder_millions(record: Result) -> float:
    """Return the parameters of a record's encoder in millions, counted without its weights."""
    with torch.device("meta"):
        encoder = timm.create_model(record.backbone, num_classes=0, **record.backbone_args)
    return sum(p.numel() for p in encoder.parameters()) / 1e6


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log.jsonl; none if there is no log or it is damaged."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    except ValueError:
        return []
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def curve_of(path: Path, key: str) -> tuple[list[float], list[float]]:
    """Return (steps, values) of `key` in a log, thinned to what a figure can show."""
    lines = [line for line in read_log(path) if isinstance(line.get(key), int | float)]
    lines = lines[:: max(1, len(lines) // MAX_CURVE_POINTS)]
    return [line["step"] for line in lines], [line[key] for line in lines]


def _curves(runs: Sequence[Run], series: Mapping[str, int]) -> Markup:
    panels: dict[str, list[figures.Curve]] = {}
    for run in runs:
        steps, losses = curve_of(run.folder / folder.LOG, "loss")
        if len(steps) > 1:
            title = f"{run.record.task}, {run.record.backbone}"
            number, scratch = series[run.record.method], run.record.method == "scratch"
            curve = figures.Curve(run.method, number, steps, losses, scratch)
            panels.setdefault(title, []).append(curve)
    if not panels:
        return Markup("")
    return Markup(figures.curves(panels, "step", "Training loss of each run by step"))


def _pretraining_curves(runs: Sequence[Run], series: Mapping[str, int]) -> Markup:
    panels: dict[str, list[figures.Curve]] = {}
    for run in _one_per_pretraining(runs):
        steps, losses = curve_of(_pretraining_folder(run) / folder.LOG, "loss")
        if len(steps) > 1:
            curve = figures.Curve(run.method, series[run.record.method], steps, losses)
            panels.setdefault(run.label, []).append(curve)
    if not panels:
        return Markup("")
    return Markup(figures.curves(panels, "step", "Pretraining loss by step"))


def _pretraining_folder(run: Run) -> Path:
    return Path((run.record.weights or {}).get("file") or "nowhere").parent


def _one_per_pretraining(runs: Sequence[Run]) -> list[Run]:
    by_sha = {run.record.weights.get("sha256"): run for run in runs if run.record.weights}
    return list(by_sha.values())


def class_differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return per task the classes with their gain over scratch, by method and backbone.

    A gain is a mean over seeds of a method minus that of scratch on the same backbone.
    """
    tables = []
    for task in sorted({run.record.task for run in runs}):
        records = [run.record for run in runs if run.record.task == task]
        pairs = sorted({(r.method, r.backbone) for r in records if r.method != "scratch"})
        metrics = [name for record in records for name in by_metric(record)]
        if not metrics:
            continue
        metric = metrics[0]
        rows = [
            (name, [_class_gain(records, pair, metric, name) for pair in pairs])
            for name in by_metric(records[0]).get(metric, {})
        ]
        gains = [abs(gain) for _, found in rows for gain in found if gain is not None]
        headers = [f"{table.METHODS.get(m, m)} {b}" for m, b in pairs]
        part = {"task": task, "metric": metric, "headers": headers, "rows": rows}
        if gains:
            tables.append({**part, "largest": max(gains) or 1.0})
    return tables


def by_metric(record: Result) -> dict[str, dict[str, float]]:
    """Return {metric: {class: value}}; detection's records have the class first."""
    classes = set(record.dataset.classes)
    turned: dict[str, dict[str, float]] = {}
    for outer, values in record.per_class.items():
        for inner, value in values.items():
            name, metric = (outer, inner) if outer in classes else (inner, outer)
            turned.setdefault(metric, {})[name] = value
    return turned


def _class_gain(
    records: Sequence[Result], pair: tuple[str, str], metric: str, name: str
) -> float | None:
    method, backbone = pair

    def mean(wanted: str) -> float | None:
        mine = [r for r in records if (r.method, r.backbone) == (wanted, backbone)]
        values = [v for r in mine if (v := by_metric(r).get(metric, {}).get(name)) is not None]
        return sum(values) / len(values) if values else None

    ours, scratch = mean(method), mean("scratch")
    return None if ours is None or scratch is None else ours - scratch


def _pictures(runs: Sequence[Run], name: str) -> list[tuple[str, str]]:
    """Return (caption, data URI) of each run's picture."""
    found = []
    for run in runs:
        source = data_uri(run.folder / name)
        if source:
            metrics = ", ".join(
                f"{metric} {run.record.metrics[metric]:.1f}"
                for metric in table.COLUMNS[run.record.task]
                if metric in run.record.metrics
            )
            caption = f"{run.label}, {run.record.task}, seed {run.record.seed}: {metrics}"
            found.append((caption, source))
    return found


def _reconstructions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    sheets = [
        (run, _pretraining_folder(run) / folder.PICTURE) for run in _one_per_pretraining(runs)
    ]
    return [(run.label, data_uri(sheet)) for run, sheet in sheets if sheet.is_file()]


def data_uri(path: Path) -> str:
    """Return a picture as a data URI, at most PICTURE_WIDTH_PX wide; "" if it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError:
        return ""
    picture.thumbnail((PICTURE_WIDTH_PX, 10 * PICTURE_WIDTH_PX))
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
