"""Predictions beside the truth, for detection, segmentation and fine-tuning runs.

    python tools/show_predictions.py RUN [--out FILE.png] [--count N | --images ID ...]
        [--score S] [--worst] [--curves FILE.png] [--data DIR]

Detections: left the ground truth, with what was missed in orange; right what was found, hits in
green and false positives in red. --curves draws precision over recall. Classes: which are confused,
and the images on which the classifier is surest of a wrong one; --data says where the images lie.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.folder import PREDICTIONS_PICTURE as PREDICTIONS
from pretrain.run.stop import exit_status
from transfer.results.record import read_result


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    run: Annotated[Path, tyro.conf.Positional]
    """The output folder of a finished run."""
    out: Path | None = None
    """Where the pictures go; default: RUN/predictions.png."""
    count: int = 8
    """Images, spread over the split."""
    images: tuple[str, ...] | None = None
    """Ids of images of the annotation file, instead of --count."""
    score: float | None = None
    """Least score shown; default: that of the best F1."""
    worst: bool = False
    """Images with most errors first."""
    curves: Path | None = None
    """Precision over recall goes there."""
    data: Path | None = None
    """The labelled images of a fine-tuning run."""


def main(arguments: Arguments) -> None:
    """Write the pictures and say where."""
    if arguments.images == ():
        raise ValueError("--images names no image: give ids of the annotation file")
    if arguments.count < 1:
        raise ValueError(f"--count must be at least 1, got {arguments.count}")
    task = read_result(arguments.run).task
    if task not in SHOW:
        raise ValueError(f"{arguments.run}: a {task} has no predictions to show")
    for path in SHOW[task](arguments):
        print(path)


def _show_segmentation(arguments: Arguments) -> list[Path]:
    from transfer.segmentation.pictures import draw

    return [draw(arguments.run, arguments.out or arguments.run / PREDICTIONS, arguments.count)]


def _show_classes(arguments: Arguments) -> list[Path]:
    from transfer.classification.pictures import draw
    from transfer.classification.predictions import NAME, read_predictions
    from transfer.datasets.class_split import open_split

    if arguments.data is None:
        raise ValueError("--data DIR is needed: a fine-tuning does not say where its images lie")
    split = open_split(arguments.data, "val", read_result(arguments.run).dataset.classes)
    found = read_predictions(arguments.run / NAME, split)
    return [draw(split, found, arguments.out or arguments.run / PREDICTIONS, arguments.count)]


def _show_detections(arguments: Arguments) -> list[Path]:
    from transfer.detection.evaluation.curves import draw_curves
    from transfer.detection.evaluation.pictures import best_score, choose, draw
    from transfer.detection.evaluation.saved import read_predictions, read_val

    split, predictions = read_val(arguments.run), read_predictions(arguments.run)
    score = best_score(split, predictions) if arguments.score is None else arguments.score
    records = choose(
        split,
        predictions,
        count=arguments.count,
        ids=arguments.images,
        score=score,
        worst=arguments.worst,
    )
    out = arguments.out or arguments.run / PREDICTIONS
    paths = [draw(split, records, predictions, out, score=score)]
    if arguments.curves:
        paths.append(draw_curves(split.read_ground_truth(), predictions, arguments.curves))
    return paths


SHOW = {
    "detection": _show_detections,
    "segmentation": _show_segmentation,
    "classification": _show_classes,
}

if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
