"""LVIS: COCO's annotation format with a federated ground truth (arXiv 1908.03195, section 3).

An image says which categories it certainly lacks and of which not every object is marked;
detections of any other category are not judged there.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

FREQUENCIES = ("r", "c", "f")  # categories on 1-10, 11-100 and more training images
CATEGORY_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of an image
DETECTIONS_AN_IMAGE = 300  # LVIS API, LVISResults


def is_lvis(data: dict[str, Any]) -> bool:
    """Return whether an annotation file is in LVIS' format, not plain COCO's."""
    return any("neg_category_ids" in image for image in data["images"])


def name_files(images: list[dict[str, Any]]) -> None:
    """Set file names, which LVIS lacks: `train2017/NAME.jpg` from COCO's URL of the image."""
    for image in images:
        if "file_name" not in image and "coco_url" in image:
            image["file_name"] = "/".join(image["coco_url"].split("/")[-2:])


def best_of_each_image(detections: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Keep the `most` highest-scoring detections per image, over all categories."""
    by_image = defaultdict(list)
    for detection in detections:
        by_image[detection["image_id"]].append(detection)
    return [
        detection
        for found in by_image.values()
        for detection in sorted(found, key=lambda d: d["score"], reverse=True)[:most]
    ]


def judged(
    detections: list[dict[str, Any]],
    ground_truth: dict[str, Any],
    place: Callable[[dict[str, Any]], dict[str, int]],
) -> list[dict[str, Any]]:
    """Return the detections of categories that are known to be present or absent on their image.

    LVIS ignores all others. faster-coco-eval does too, but fails where they are all that an image
    has. `place` gives a detection's ids as `ground_truth` has them.
    """
    known = {(a["image_id"], a["category_id"]) for a in ground_truth["annotations"]}
    for image in ground_truth["images"]:
        known |= {(image["id"], category) for category in image.get("neg_category_ids", ())}
    return [d for d in detections if tuple(place(d).values()) in known]
