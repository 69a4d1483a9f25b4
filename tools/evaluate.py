"""Evaluate saved detections again, without the model.

    python tools/evaluate.py RUN [--engine pycocotools] [--json FILE]
    python tools/evaluate.py PREDICTIONS.json --annotations INSTANCES.json

RUN is the output folder of tools/train_net.py; PREDICTIONS.json is in COCO's results format.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.files.write import atomic_write
from pretrain.run.stop import exit_status
from transfer.detection.evaluation.coco_eval import CocoMetrics, Engine, coco_metrics, tasks_of
from transfer.detection.evaluation.saved import read_predictions, read_truth


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    predictions: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a results file."""
    annotations: Path | None = None
    """Instances in COCO's format; default: the run's validation file."""
    engine: Engine = "faster-coco-eval"
    """The evaluator."""
    max_detections: int | None = None
    """Detections of an image that are counted; default: 100, LVIS 300."""
    json: Path | None = None
    """Write the figures there as well."""


def main(arguments: Arguments) -> None:
    """Evaluate and print the figures."""
    if arguments.max_detections is not None and arguments.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, got {arguments.max_detections}")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        raise ValueError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    detections = read_predictions(arguments.predictions)
    truth = read_truth(arguments.predictions, arguments.annotations)
    metrics = coco_metrics(
        truth,
        detections,
        tasks=tasks_of(detections),
        engine=arguments.engine,
        max_detections=arguments.max_detections,
    )
    print(report(metrics, len(detections)))
    if arguments.json:
        found = {"metrics": metrics.metrics, "per_class": metrics.per_class}
        text = json.dumps({**found, "evaluator": metrics.evaluator}, indent=1)
        atomic_write(arguments.json, lambda path: path.write_text(text))


def report(metrics: CocoMetrics, count: int) -> str:
    """Format the figures as a table: one row per metric, then one per class."""
    lines = [f"{count:,} detections, evaluated by {metrics.evaluator}"]
    lines += [f"  {name:<12} {value:6.2f}" for name, value in metrics.metrics.items()]
    for name, values in metrics.per_class.items():
        told = "  ".join(f"{k} {v:6.2f}" for k, v in values.items())
        lines.append(f"  {name:<24} {told or 'no ground truth'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
