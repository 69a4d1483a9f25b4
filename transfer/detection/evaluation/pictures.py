"""Detections beside ground truth, from an annotation file and saved predictions alone.

Left the ground truth, with missed objects in orange; right the detections: hits in green, false
positives in red.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
from PIL import Image, ImageDraw

from pretrain.files.write import atomic_write
from pretrain.run.folder import PREDICTIONS_PICTURE
from pretrain.run.sheet import contact_sheet
from transfer.detection.data import Split
from transfer.detection.evaluation.evaluator import PREDICTIONS_NAME
from transfer.detection.evaluation.matching import match, to_rle

HIT, WRONG, MISSED, TRUTH = (40, 190, 90), (225, 50, 50), (255, 150, 20), (60, 130, 246)


SIDE_PX = 256


def write_pictures(split: Split, folder: Path, count: int) -> Path | None:
    """`folder`/predictions.png: `count` images spread over the split; None for none."""
    predictions = json.loads((folder / PREDICTIONS_NAME).read_text())
    records = choose(split, predictions, count=count)
    if not records:
        return None
    score = best_score(split, predictions)
    return draw(split, records, predictions, folder / PREDICTIONS_PICTURE, score=score)


def best_score(split: Split, predictions: list[dict[str, Any]]) -> float:
    """Return the least score to show: that of the best F1 at box IoU 0.5, of at most 200 images."""
    truths, found = _by_image(split, predictions, 0.0)
    marked: list[tuple[float, bool]] = []
    wanted = 0
    for record in split.records[:: max(len(split.records) // 200, 1)]:
        key, size = record["image_id"], (record["height"], record["width"])
        result = match(found[key], truths[key], size=size, masks=False)
        hits = {d for d, _ in result.hits}
        marked += [(d["score"], i in hits) for i, d in enumerate(found[key])]
        wanted += len(result.hits) + len(result.misses)
    if not marked:
        return 0.5
    scores, right = zip(*sorted(marked, reverse=True), strict=True)
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(right) + 1) + max(wanted, 1))
    return float(scores[int(f1.argmax())])


def choose(
    split: Split,
    predictions: list[dict[str, Any]],
    *,
    count: int,
    ids: Sequence[Any] | None = None,
    score: float = 0.5,
    worst: bool = False,
) -> list[dict[str, Any]]:
    """Return records to show: those named, those with most errors, or `count` spread out.

    Raises ValueError for an id that the split does not have.
    """
    if ids:
        place_of = {str(image["id"]): i for i, image in enumerate(split.file.images)}
        unknown = [str(i) for i in ids if str(i) not in place_of]
        if unknown:
            raise ValueError(f"{split.json_file} has no image with id {', '.join(unknown)}")
        return [split.records[place_of[str(i)]] for i in ids]
    rows = split.records.with_objects()
    if worst:
        truths, found = _by_image(split, predictions, score)
        return sorted(rows, key=lambda r: -_errors(r, truths, found))[:count]
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def draw(
    split: Split,
    records: list[dict[str, Any]],
    predictions: list[dict[str, Any]],
    path: Path,
    *,
    score: float = 0.5,
) -> Path:
    """Write `path`: one image a row, ground truth beside the detections with at least `score`."""
    truths, found = _by_image(split, predictions, score)
    names = dict(zip(split.category_ids, split.classes, strict=True))
    sheet = contact_sheet(
        [compare(r, truths[r["image_id"]], found[r["image_id"]], names) for r in records]
    )
    atomic_write(path, lambda temporary: sheet.save(temporary, "png"))
    return path


def compare(
    record: dict[str, Any],
    truths: list[dict[str, Any]],
    found: list[dict[str, Any]],
    names: dict[int, str],
    side_px: int = SIDE_PX,
) -> list[Image.Image]:
    """Return one image twice: what is there, with the missed in orange, and what was found."""
    size = (record["height"], record["width"])
    result = match(found, truths, size=size)
    hits, wrong = {d for d, _ in result.hits}, set(result.false_positives)
    left = [(a, MISSED if i in result.misses else TRUTH) for i, a in enumerate(truths)]
    right = [(p, HIT if i in hits else WRONG) for i, p in enumerate(found) if i in hits | wrong]
    image = Image.open(record["file_name"]).convert("RGB")
    scale = side_px / max(size)
    return [_draw(image, left, names, scale), _draw(image, right, names, scale)]


Grouped = dict[Any, list[dict[str, Any]]]


def _by_image(
    split: Split, predictions: list[dict[str, Any]], score: float
) -> tuple[Grouped, Grouped]:
    """Ground truth and sure enough detections by image id."""
    truths: Grouped = defaultdict(list)
    for annotation in split.read_ground_truth()["annotations"]:
        truths[annotation["image_id"]].append(annotation)
    found: Grouped = defaultdict(list)
    for prediction in predictions:
        if prediction["score"] >= score:
            found[prediction["image_id"]].append(prediction)
    return truths, found


def _errors(record: dict[str, Any], truths: Grouped, found: Grouped) -> int:
    key = record["image_id"]
    result = match(found[key], truths[key], size=(record["height"], record["width"]))
    return len(result.misses) + len(result.false_positives)


def _draw(
    image: Image.Image,
    objects: list[tuple[dict[str, Any], tuple[int, int, int]]],
    names: dict[int, str],
    scale: float,
) -> Image.Image:
    pixels = np.asarray(image, np.float32).copy()
    for thing, color in objects:
        if thing.get("segmentation"):
            inside = mask_api.decode(to_rle(thing, (image.height, image.width))).astype(bool)
            pixels[inside] = 0.55 * pixels[inside] + 0.45 * np.asarray(color, np.float32)
    shown = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    shown = shown.resize((round(image.width * scale), round(image.height * scale)))
    draw = ImageDraw.Draw(shown)
    for thing, color in objects:
        x, y, w, h = (v * scale for v in thing["bbox"])
        draw.rectangle((x, y, x + w, y + h), outline=color)
        label = [names[thing["category_id"]]] if len(names) > 1 else []
        if "score" in thing:
            label.append(f"{thing['score']:.2f}")
        draw.text((x + 2, y + 1), " ".join(label), fill=color)
    return shown
