"""Ids in COCO's annotation and results files.

The format's are whole numbers (cocodataset.org, format-data). Files of other tools have text or
other numbers: they are compared and written as they stand (5 is not "5"), and evaluated by number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from transfer.datasets.lvis import CATEGORY_LISTS


def id_problem(ids: Sequence[Any]) -> str | None:
    """Say what keeps `ids` from being used as ids, or None: all numbers, or all text."""
    first = {type(i): i for i in reversed(ids)}  # kind -> the first of it
    odd = [kind for kind in first if kind is bool or not issubclass(kind, Real | str)]
    if odd:
        return f"{first[odd[0]]!r} is neither a number nor text"
    if str in first and len(first) > 1:
        number = next(i for kind, i in first.items() if kind is not str)
        return f"some are numbers and some text, as {number!r} and {first[str]!r}"
    if not all(math.isfinite(i) for i in ids if isinstance(i, float)):
        return "one is not finite"
    return None


@dataclass(frozen=True)
class IdNumbers:
    """A file's ids -> 1, 2, ... in the order of the ids, which every COCO evaluation takes.

    faster-coco-eval cuts "7" and 7.5 to 7, in the ground truth alone, and fails on ids below 0.
    """

    image: dict[Any, int]
    category: dict[Any, int]

    @classmethod
    def of(cls, data: dict[str, Any]) -> "IdNumbers":
        """Give the images and categories of COCO instances numbers."""
        images, categories = (
            sorted({record["id"] for record in data[name]}) for name in ("images", "categories")
        )
        return cls(_from_one(images), _from_one(categories))

    def place(self, record: dict[str, Any]) -> dict[str, int]:
        """Return the numbers that stand for a record's image_id and category_id."""
        return {
            "image_id": self.image[record["image_id"]],
            "category_id": self.category[record["category_id"]],
        }

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of COCO instances with these numbers for ids."""
        images = [{**i, "id": self.image[i["id"]]} for i in data["images"]]
        for image in images:
            for name in image.keys() & set(CATEGORY_LISTS):
                image[name] = [self.category[c] for c in image[name] if c in self.category]
        categories = [{**c, "id": self.category[c["id"]]} for c in data["categories"]]
        annotations = [{**a, **self.place(a)} for a in data["annotations"]]
        return {**data, "images": images, "categories": categories, "annotations": annotations}


def _from_one(ids: list[Any]) -> dict[Any, int]:
    return {key: number for number, key in enumerate(ids, 1)}
