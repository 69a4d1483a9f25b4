"""Evaluate saved detections again, without the model.

    python tools/evaluate.py RUN [--engine pycocotools] [--json FILE]
    python tools/evaluate.py PREDICTIONS.json --annotations INSTANCES.json

RUN is the output folder of tools/train_net.py; PREDICTIONS.json is in COCO's results format.
"""

import argparse
import json
import sys
from pathlib import Path

from pretrain.run.stop import exit_status
from transfer.detection.evaluation.coco_eval import ENGINES, CocoMetrics, coco_metrics, tasks_of
from transfer.detection.evaluation.saved import read_predictions, read_truth


def run() -> None:
    """Read the command line, evaluate, and print the figures."""
    usage, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=usage, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path, help="a run's folder, or a results file")
    parser.add_argument("--annotations", type=Path, help="default: the run's validation file")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--max-detections", type=int, help="counted (100; LVIS 300)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    detections = read_predictions(arguments.predictions)
    truth = read_truth(arguments.predictions, arguments.annotations)
    metrics = coco_metrics(
        truth, detections, tasks=tasks_of(detections), engine=arguments.engine,
        max_detections=arguments.max_detections,
    )  # fmt: skip
    print(report(metrics, len(detections)))
    if arguments.json:
        found = {"metrics": metrics.metrics, "per_class": metrics.per_class}
        arguments.json.write_text(json.dumps({**found, "evaluator": metrics.evaluator}, indent=1))


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


def report(metrics: CocoMetrics, count: int) -> str:
    """Format the figures as a table: one row per metric, then one per class."""
    lines = [f"{count:,} detections, evaluated by {metrics.evaluator}"]
    lines += [f"  {name:<12} {value:6.2f}" for name, value in metrics.metrics.items()]
    for name, values in metrics.per_class.items():
        told = "  ".join(f"{k} {v:6.2f}" for k, v in values.items())
        lines.append(f"  {name:<24} {told or 'no ground truth'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
