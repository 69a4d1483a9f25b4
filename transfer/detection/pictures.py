"""Detections beside ground truth, from an annotation file and saved predictions alone.

Left the ground truth, with missed objects in orange; right the detections: hits in green, false
positives in red.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
from PIL import Image, ImageDraw

from transfer.detection.coco import Split
from transfer.detection.evaluation import PREDICTIONS_NAME
from transfer.detection.matching import match, to_rle

PICTURE_NAME = "predictions.png"
HIT, WRONG, MISSED, TRUTH = (40, 190, 90), (225, 50, 50), (255, 150, 20), (60, 130, 246)
GAP_PX, SIDE_PX = 4, 256


def write_pictures(split: Split, folder: Path, count: int, *, score: float = 0.5) -> Path | None:
    """`folder`/predictions.png: `count` images spread over the split, one a row; None for none."""
    predictions = json.loads((folder / PREDICTIONS_NAME).read_text())
    rows = [r for r in split.records if r["annotations"]] or split.records
    count = min(count, len(rows))
    if not count:
        return None
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    pictures = [compare(split, record, predictions, score=score) for record in chosen]
    sheet = stack(pictures)
    sheet.save(folder / PICTURE_NAME)
    return folder / PICTURE_NAME


def compare(
    split: Split,
    record: dict[str, Any],
    predictions: list[dict[str, Any]],
    *,
    score: float = 0.5,
    side_px: int = SIDE_PX,
) -> Image.Image:
    """One image: ground truth beside the detections with at least `score`."""
    names = dict(zip(split.category_ids, split.classes, strict=True))
    size = (record["height"], record["width"])
    truths = [a for a in split.ground_truth["annotations"] if a["image_id"] == record["image_id"]]
    found = [p for p in predictions if p["image_id"] == record["image_id"] and p["score"] >= score]
    result = match(found, truths, size=size)
    hits = {d for d, _ in result.hits}
    wrong = set(result.false_positives)
    left = [(a, MISSED if i in result.misses else TRUTH) for i, a in enumerate(truths)]
    right = [(p, HIT if i in hits else WRONG) for i, p in enumerate(found) if i in hits | wrong]
    image = Image.open(record["file_name"]).convert("RGB")
    scale = side_px / max(size)
    return beside(_draw(image, left, names, scale), _draw(image, right, names, scale))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one height with a gap between them."""
    sheet = Image.new("RGB", (left.width + GAP_PX + right.width, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + GAP_PX, 0))
    return sheet


def stack(pictures: list[Image.Image]) -> Image.Image:
    """Pictures below each other."""
    height = sum(p.height for p in pictures) + GAP_PX * (len(pictures) - 1)
    sheet = Image.new("RGB", (max(p.width for p in pictures), height), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + GAP_PX
    return sheet


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
        label = names[thing["category_id"]]
        if "score" in thing:
            label += f" {thing['score']:.2f}"
        draw.text((x + 2, y + 1), label, fill=color)
    return shown
