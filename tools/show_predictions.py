"""Predictions beside the truth, for detection and segmentation runs.

    python tools/show_predictions.py RUN [--out FILE.png] [--count N | --images ID ...]
        [--score S] [--worst] [--curves FILE.png]

Detections: left the ground truth, with what was missed in orange; right what was found, hits in
green and false positives in red. --curves draws precision over recall.
"""

import argparse
import sys
from pathlib import Path

from pretrain.run.stop import exit_status
from transfer.results.record import read_result


def run() -> None:
    """Read the command line, write the pictures and say where."""
    usage, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=usage, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the output folder of a finished run")
    parser.add_argument("--out", type=Path, help="default: RUN/predictions.png")
    parser.add_argument("--count", type=int, default=8, help="images, spread over the split")
    parser.add_argument("--images", nargs="+", help="ids of images of the annotation file")
    parser.add_argument("--score", type=float, help="least score shown; default: of the best F1")
    parser.add_argument("--worst", action="store_true", help="images with most errors first")
    parser.add_argument("--curves", type=Path, help="precision over recall goes there")
    arguments = parser.parse_args()
    task = read_result(arguments.run).task
    show = _show_segmentation if task == "segmentation" else _show_detections
    for path in show(arguments):
        print(path)


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


def _show_segmentation(arguments: argparse.Namespace) -> list[Path]:
    from transfer.segmentation.pictures import draw

    return [
        draw(arguments.run, arguments.out or arguments.run / "predictions.png", arguments.count)
    ]


def _show_detections(arguments: argparse.Namespace) -> list[Path]:
    from transfer.detection.evaluation.curves import draw_curves
    from transfer.detection.evaluation.pictures import best_score, choose, draw
    from transfer.detection.evaluation.saved import read_predictions, read_val

    split, predictions = read_val(arguments.run), read_predictions(arguments.run)
    score = best_score(split, predictions) if arguments.score is None else arguments.score
    records = choose(
        split, predictions, count=arguments.count, ids=arguments.images, score=score,
        worst=arguments.worst,
    )  # fmt: skip
    out = arguments.out or arguments.run / "predictions.png"
    paths = [draw(split, records, predictions, out, score=score)]
    if arguments.curves:
        paths.append(draw_curves(split.read_ground_truth(), predictions, arguments.curves))
    return paths


if __name__ == "__main__":
    sys.exit(main())
