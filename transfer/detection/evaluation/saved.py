"""What a finished detection run left behind: its predictions and what they are measured on."""

import json
from pathlib import Path
from typing import Any

from pretrain.run.folder import RUN, read_json
from transfer.detection.data import Split, read_split
from transfer.detection.evaluation.evaluator import PREDICTIONS_NAME
from transfer.detection.folder import PATHS


def read_predictions(source: Path) -> list[dict[str, Any]]:
    """Read detections from a run's folder or a file, in COCO's results format.

    Raises FileNotFoundError if there is no file, ValueError for another format.
    """
    path = source / PREDICTIONS_NAME if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}")
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(d, dict) for d in found):
        raise ValueError(f"{path}: not in COCO's results format, a list of detections")
    needed = ("image_id", "category_id", "bbox", "score")
    lacking = [key for key in needed if found and key not in found[0]]
    if lacking:
        raise ValueError(f"{path}: detections lack {', '.join(lacking)}")
    return found


def read_val(source: Path, annotations: Path | None = None, images: Path | None = None) -> Split:
    """Read the validation split of a run, or of the paths given instead.

    Raises ValueError if neither names the annotations.
    """
    data: dict[str, str] = {}
    run_file = (source if source.is_dir() else source.parent) / RUN
    if run_file.is_file():
        data = read_json(run_file).get(PATHS, {})
    json_file = annotations or data.get("val_json")
    if json_file is None:
        raise ValueError(f"{source} is not a run's folder: give --annotations")
    return read_split("val", json_file, images or data.get("val_images", ""))


def read_truth(source: Path, annotations: Path | None = None) -> dict[str, Any]:
    """Return the ground truth that a run's predictions are measured on."""
    return read_val(source, annotations).read_ground_truth()
