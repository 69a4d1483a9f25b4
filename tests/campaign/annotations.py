"""COCO files and label maps that are wrong: the training and the check must both say so."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.campaign.case import Case, Place
from tests.campaign.world import DETECTION, SEGMENTATION, edit_json

TRAIN = DETECTION.replace("{w}/coco", "{o}/coco")
CHECK = (
    "coco --train-json {o}/coco/train/instances.json --train-images {o}/coco/train/images "
    "--val-json {o}/coco/val/instances.json --val-images {o}/coco/val/images"
)


def coco(change: Callable[[Any], object], split: str = "train") -> Callable[[Place], None]:
    """Prepare a copy of the sound annotations with one of its JSON files changed."""

    def prepare(place: Place) -> None:
        edit_json(place.copy("coco") / split / "instances.json", change)

    return prepare


def raw(content: bytes, split: str = "train") -> Callable[[Place], None]:
    """Prepare a copy in which a JSON file has this content."""

    def prepare(place: Place) -> None:
        (place.copy("coco") / split / "instances.json").write_bytes(content)

    return prepare


def first(change: dict[str, Any]) -> Callable[[Any], object]:
    """Change keys of the first annotation; None removes a key."""

    def apply(content: Any) -> None:
        for key, value in change.items():
            if value is None:
                content["annotations"][0].pop(key, None)
            else:
                content["annotations"][0][key] = value

    return apply


def image(change: dict[str, Any]) -> Callable[[Any], object]:
    """Change keys of the first image; None removes a key."""

    def apply(content: Any) -> None:
        for key, value in change.items():
            if value is None:
                content["images"][0].pop(key, None)
            else:
                content["images"][0][key] = value

    return apply


def without(*keys: str) -> Callable[[Any], object]:
    """Remove top-level keys."""
    return lambda content: [content.pop(key) for key in keys]


def all_crowd(content: Any) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def doubled(content: Any) -> None:
    content["annotations"] *= 2


def no_annotations(content: Any) -> None:
    content["annotations"] = []


def image_file(edit: Callable[[Path], object]) -> Callable[[Place], None]:
    """Prepare a copy in which the first training image is spoilt."""
    return lambda place: edit(sorted((place.copy("coco") / "train/images").iterdir())[0]) and None


DEEP = b'{"images": ' + b"[" * 100000 + b"]" * 100000 + b"}"
ANNOTATIONS: dict[str, tuple[Callable[[Place], None], str]] = {
    "not-json": (raw(b"{"), "instances.json"),
    "empty-file": (raw(b""), "instances.json"),
    "a-list": (raw(b"[]"), "instances.json"),
    "utf-16": (raw(json.dumps({"images": []}).encode("utf-16")), "instances.json"),
    "deep": (raw(DEEP), "instances.json"),
    "no-images": (coco(without("images")), "images"),
    "no-annotations-key": (coco(without("annotations")), "annotations"),
    "no-categories": (coco(without("categories")), "categories"),
    "no-annotation": (coco(no_annotations), "annotation"),
    "crowd-only": (coco(all_crowd), "annotation"),
    "ids-twice": (coco(doubled), "used 2 times"),
    "no-id": (coco(first({"id": None})), "id"),
    "id-text": (coco(first({"image_id": "x"})), "image"),
    "id-list": (coco(first({"image_id": [1]})), "image"),
    "id-dict": (coco(first({"category_id": {"a": 1}})), "categor"),
    "image-id-huge": (coco(image({"id": 2**70})), "id|image"),
    "no-image-id": (coco(first({"image_id": None})), "image_id|image"),
    "unknown-image": (coco(first({"image_id": 10**6})), "image"),
    "unknown-category": (coco(first({"category_id": 99})), "categor"),
    "no-bbox": (coco(first({"bbox": None})), "bbox|box"),
    "bbox-text": (coco(first({"bbox": ["a", 1, 2, 3]})), "box"),
    "bbox-short": (coco(first({"bbox": [1, 2, 3]})), "box"),
    "bbox-corners": (coco(first({"bbox": [60, 60, 90, 90]})), "box"),
    "bbox-negative": (coco(first({"bbox": [30, 30, -5, -5]})), "negative side"),
    "bbox-nan": (coco(first({"bbox": [1, 2, float("nan"), 3]})), "box|NaN"),
    "mask-text": (coco(first({"segmentation": "~~~~"})), "segmentation"),
    "mask-rle-wild": (
        coco(first({"segmentation": {"size": [64, 64], "counts": "~~~~"}, "iscrowd": 1})),
        "mask|run",
    ),
    "mask-rle-size": (
        coco(first({"segmentation": {"size": [3, 3], "counts": [9]}, "iscrowd": 1})),
        "mask|size",
    ),
    "polygon-outside": (coco(first({"segmentation": [[900, 900, 950, 900, 950, 950]]})), "polygon"),
    "iscrowd-text": (coco(first({"iscrowd": "yes"})), "iscrowd"),
    "width-text": (coco(image({"width": "wide"})), "width|size"),
    "width-null": (coco(image({"width": None})), "width|size"),
    "width-wrong": (coco(image({"width": 9, "height": 9})), "size"),
    "file-name-number": (coco(image({"file_name": 5})), "file_name"),
    "file-name-outside": (coco(image({"file_name": "../../x.png"})), "x.png|file_name"),
    "file-name-missing": (coco(image({"file_name": "gone.png"})), "gone.png"),
    "image-fifo": (image_file(lambda p: (p.unlink(), os.mkfifo(p))), "png"),
}
# found by the check of data; a training reads an image when its turn comes, and can be resumed
LATE = {
    "image-not-one": (image_file(lambda path: path.write_bytes(b"no image")), "png"),
    "image-empty": (image_file(lambda path: path.write_bytes(b"") or True), "png"),
}
VALIDATION = {
    "crowd-only": (coco(all_crowd, "val"), "annotation"),
    "no-annotation": (coco(no_annotations, "val"), "annotation"),
    "other-categories": (
        coco(lambda c: c["categories"].append({"id": 77, "name": "new"}), "val"),
        "categor",
    ),
    "iscrowd-text": (coco(first({"iscrowd": "yes"}), "val"), "iscrowd"),
    "not-json": (raw(b"{", "val"), "instances.json"),
}

LABELS = SEGMENTATION.replace("{w}/scenes", "{o}/scenes")


def label(edit: Callable[[Path], object], split: str = "train") -> Callable[[Place], None]:
    """Prepare a copy of the scenes in which the first label map is spoilt."""
    return lambda place: (
        edit(sorted((place.copy("scenes") / "labels" / split).iterdir())[0]) and None
    )


def every_label(value: int, split: str) -> Callable[[Place], None]:
    """Prepare a copy in which all label maps of a split have one value."""

    def prepare(place: Place) -> None:
        for path in (place.copy("scenes") / "labels" / split).iterdir():
            Image.fromarray(np.full((64, 64), value, np.uint8)).save(path)

    return prepare


def array(values: Any) -> Callable[[Path], object]:
    """Write an array in the place of a label map."""
    return lambda path: Image.fromarray(values).save(path) or True


def other_images(place: Place) -> None:
    for path in (place.copy("scenes") / "images/train").iterdir():
        path.rename(path.with_name("x" + path.name))


MAPS: dict[str, tuple[Callable[[Place], None], str]] = {
    "missing": (label(lambda path: path.unlink() or True), "label"),
    "not-an-image": (label(lambda path: path.write_bytes(b"no image")), "png"),
    "empty": (label(lambda path: path.write_bytes(b"") or True), "png"),
    "colours": (label(array(np.zeros((64, 64, 3), np.uint8))), "mode|RGB|channel"),
    "sixteen-bit": (label(array(np.zeros((64, 64), np.uint16))), "mode|16|label"),
    "another-size": (label(array(np.zeros((9, 9), np.uint8))), "size"),
    "past-the-classes": (label(array(np.full((64, 64), 9, np.uint8))), "9|value"),
    "all-ignored": (every_label(255, "train"), "ignored|label"),
    "validation-all-ignored": (every_label(255, "val"), "ignored|label"),
    "fifo": (label(lambda p: (p.unlink(), os.mkfifo(p))), "png"),
    "no-pair": (other_images, "label"),
}


def cases() -> Iterator[Case]:
    """Yield a case for each bad annotation: training, and the check of data."""
    for name, (prepare, expect) in ANNOTATIONS.items():
        yield Case(f"coco-train-{name}", "train_net", TRAIN, expect, prepare)
        yield Case(f"coco-check-{name}", "check_data", CHECK, expect, prepare, (1, 2))
    for name, (prepare, expect) in LATE.items():
        yield Case(
            f"coco-late-{name}",
            "train_net",
            TRAIN,
            expect + ".*check_data.*--resume",
            prepare,
            (1,),
            may_write=("out",),
        )
        yield Case(f"coco-check-{name}", "check_data", CHECK, expect, prepare, (1,))
    for name, (prepare, expect) in VALIDATION.items():
        yield Case(f"coco-val-{name}", "train_net", TRAIN, expect, prepare)
    check = (
        "ade20k --train-images {o}/scenes/images/train --train-labels {o}/scenes/labels/train "
        "--val-images {o}/scenes/images/val --val-labels {o}/scenes/labels/val --classes 3 "
        "--zero-is-a-class --image-suffix .png"
    )
    for name, (prepare, expect) in MAPS.items():
        yield Case(f"labels-train-{name}", "train_seg", LABELS, expect, prepare)
        yield Case(f"labels-check-{name}", "check_data", check, expect, prepare, (1, 2))
