"""The objects of COCO-format images as a classification: each cut out, its category the class.

A crop is the square around the object's box, a quarter larger, within the image.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pretrain.files.image import decode_rgb, open_regular

MARGIN = 1.25  # side of the crop / longer side of the box
SMALLEST_PX = 8  # longer side of a box; smaller objects show nothing


@dataclass
class ObjectCrops:
    """Crops of objects, (left, top, right, bottom) in pixels of their images."""

    folder: Path
    files: list[str]  # of each crop
    boxes: np.ndarray  # (n, 4) int64
    ids: list[int]  # of the annotations

    def __len__(self) -> int:
        return len(self.files)

    def relative_name(self, index: int) -> str:
        """Return image and annotation."""
        return f"{self.files[index]}#{self.ids[index]}"

    def name(self, index: int) -> str:
        """Return the image's path and the annotation."""
        return str(self.folder / self.relative_name(index))

    def open(self, index: int) -> IO[bytes]:
        """Return the crop as a PPM file. Raises OSError or ValueError for an unreadable image."""
        with open_regular(self.folder / self.files[index]) as stream:
            crop = decode_rgb(io.BytesIO(stream.read())).crop(tuple(self.boxes[index].tolist()))
        content = io.BytesIO()
        crop.save(content, "ppm")
        content.seek(0)
        return content


def instances_file(root: Path, split: str) -> Path | None:
    """Return the annotations of a split in COCO's layout below `root`; None if there are none."""
    for base in (root, root / "coco"):
        path = base / "annotations" / f"instances_{split}2017.json"
        if path.is_file():
            return path
    return None


def read_crops(annotations: Path, split: str) -> tuple[ObjectCrops, np.ndarray, tuple[str, ...]]:
    """Return the objects of a split, their labels and the categories' names; crowds are left out.

    Raises ValueError if there is no object, or the file is not in COCO's format.
    """
    try:
        content = json.loads(annotations.read_text())
        categories = sorted(content["categories"], key=lambda c: c["id"])
        images = {image["id"]: image for image in content["images"]}
        kept = [a for a in content["annotations"] if _is_usable(a)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{annotations} is not in COCO's format: {error!r}") from error
    if not kept:
        raise ValueError(f"{annotations} has no object of {SMALLEST_PX} pixels or more")
    number = {category["id"]: i for i, category in enumerate(categories)}
    crops = ObjectCrops(
        annotations.parent.parent / f"{split}2017",
        [images[a["image_id"]]["file_name"] for a in kept],
        np.array([_square(a["bbox"], images[a["image_id"]]) for a in kept], dtype=np.int64),
        [a["id"] for a in kept],
    )
    labels = np.array([number[a["category_id"]] for a in kept], dtype=np.int64)
    return crops, labels, tuple(category["name"] for category in categories)


def _is_usable(annotation: dict[str, Any]) -> bool:
    return not annotation.get("iscrowd") and max(annotation["bbox"][2:]) >= SMALLEST_PX


def _square(box: list[float], image: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the square around a box (x, y, width, height), moved into the image."""
    x, y, width, height = box
    side = min(round(MARGIN * max(width, height)), image["width"], image["height"])
    left = round(min(max(0, x + width / 2 - side / 2), image["width"] - side))
    top = round(min(max(0, y + height / 2 - side / 2), image["height"] - side))
    return left, top, left + side, top + side
