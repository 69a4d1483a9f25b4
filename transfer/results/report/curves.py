"""Curves of a report: losses and metrics over training, and the losses of the pretrainings."""

from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.run import folder
from transfer.results.report.figures import Curve, Figure, curves
from transfer.results.report.runs import Run, pretrainings, read_log, trainings
from transfer.tasks import TASKS

MAX_POINTS = 400  # of a curve

Panels = dict[str, list[Curve]]


def points(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Return (steps, values) of `key` in a log, thinned to what a figure can show."""
    found = [line for line in lines if isinstance(line.get(key), int | float)]
    found = found[:: max(1, len(found) // MAX_POINTS)]
    return [line["step"] for line in found], [line[key] for line in found]


def loss_figures(runs: Sequence[Run], series: Mapping[str, int]) -> list[Figure]:
    """Draw the training losses, one figure a task and backbone."""
    panels: Panels = {}
    for run in trainings(runs):
        _add(panels, _place(run), run, run.log, "loss", series)
    return _drawn(panels, "Training loss by step")


def metric_figures(runs: Sequence[Run], series: Mapping[str, int]) -> list[Figure]:
    """Draw the metrics of the evaluations during training, one figure a metric and backbone.

    A curve ends with the figure of the record.
    """
    panels: Panels = {}
    for run in trainings(run for run in runs if run.evaluation is None):
        for metric in TASKS[run.record.task].columns:
            if any(metric in line for line in run.log) and metric in run.record.metrics:
                end = {"step": run.log[-1]["step"], metric: run.record.metrics[metric]}
                title = f"{metric}, {run.record.backbone}"
                _add(panels, title, run, [*run.log, end], metric, series)
    return _drawn(panels, "Metric by step")


def pretraining_figures(runs: Sequence[Run], series: Mapping[str, int]) -> list[Figure]:
    """Draw the losses of the pretrainings, one figure a backbone."""
    panels: Panels = {}
    for run in pretrainings(runs):
        lines = read_log(run.pretraining / folder.LOG) if run.pretraining else []
        _add(panels, run.label, run, lines, "loss", series)
    return _drawn(panels, "Pretraining loss by step")


def _place(run: Run) -> str:
    return f"{run.record.task}, {run.record.backbone}"


def _add(
    panels: Panels,
    title: str,
    run: Run,
    lines: Sequence[Mapping[str, Any]],
    key: str,
    series: Mapping[str, int],
) -> None:
    """Add the curve of a run to the panel of that title, if the log has one."""
    x, y = points(lines, key)
    if len(x) > 1:
        scratch = run.record.method == "scratch"
        curve = Curve(run.method, series[run.record.method], x, y, dashed=scratch)
        panels.setdefault(title, []).append(curve)


def _drawn(panels: Panels, description: str) -> list[Figure]:
    return [
        curves(title, found, "step", f"{description}: {title}")
        for title, found in sorted(panels.items())
    ]
