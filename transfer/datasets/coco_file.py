"""A COCO-format annotation file, read once; its records are fetched from the file when asked for.

COCO 2017's training file is 450 MB of text and 2 GB as Python objects, which every process and
every data worker of a machine would hold. Here a process holds where the records stand (20 MB), and
the file itself is held once per machine, by the operating system.
"""

import json
import math
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from transfer.datasets.ids import id_problem
from transfer.datasets.json_pieces import JsonPieces, Piece
from transfer.datasets.lvis import is_lvis, name_files

NEEDED = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number above 0; some exporters write 640.0."""
    return isinstance(value, int | float) and value > 0 and float(value).is_integer()


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


# keys of any record -> what fits, and its name
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "width": (is_count, "pixels, a whole number above 0"),
    "height": (is_count, "pixels, a whole number above 0"),
    "file_name": (lambda value: isinstance(value, str) and value != "", "a file's name"),
    "area": (is_number, "pixels, a number"),
    "iscrowd": (lambda value: value in (0, 1), "0 or 1"),
}
Inspect = Callable[[dict[str, Any], dict[str, Any]], None]  # an annotation and its image


class NotCocoError(ValueError):
    """A JSON file that is not in COCO's instances format."""


class Mask(IntEnum):
    """What an annotation's `segmentation` is."""

    NONE = 0
    POLYGONS = 1
    RUN_LENGTHS = 2
    BROKEN = 3  # polygons, but not one with three points: Detectron2 leaves the object out


class Places(Sequence[dict[str, Any]]):
    """Records at known bytes of a JSON file; only the one asked for is read.

    Raises ValueError if the file has changed since it was indexed.
    """

    def __init__(self, path: Path, starts: np.ndarray, ends: np.ndarray) -> None:
        self.path, self.starts, self.ends = path, starts, ends
        self._stamp = _stamp(path.stat())
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        start, end = int(self.starts[index]), int(self.ends[index])
        if self._file is None:
            self._file = self.path.open("rb")
            if _stamp(os.fstat(self._file.fileno())) != self._stamp:
                raise ValueError(f"{self.path} has changed since the run began: start it again")
        # pread leaves the place in the file alone, which forked workers share
        return json.loads(os.pread(self._file.fileno(), end - start, start))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def taken(self, order: np.ndarray) -> "Places":
        """Return the records at `order`, in that order."""
        return Places(self.path, self.starts[order], self.ends[order])


@dataclass(frozen=True)
class CocoFile:
    """Where everything stands. Images are in the order of their ids."""

    path: Path
    sha256: str
    categories: list[dict[str, Any]]  # in the order of their ids
    images: Places
    wide: np.ndarray  # (images,) bool: wider than high
    annotations: Places  # those of the first image, then those of the second, ...
    first: np.ndarray  # (images + 1,) int64: the annotations of image i begin at first[i]
    crowd: np.ndarray  # (annotations,) bool
    masks: np.ndarray  # (annotations,) int8, of Mask
    is_lvis: bool

    def annotations_of(self, image: int) -> list[dict[str, Any]]:
        """Read the annotations of the image at this place, without broken ones."""
        numbers = range(self.first[image], self.first[image + 1])
        return [self.annotations[n] for n in numbers if self.masks[n] != Mask.BROKEN]

    def trainable(self) -> np.ndarray:
        """Return the places of images with an object that is neither a crowd nor broken."""
        usable = ~self.crowd & (self.masks != Mask.BROKEN)
        before = np.concatenate([[0], np.cumsum(usable)])
        return np.flatnonzero(before[self.first[1:]] > before[self.first[:-1]])


@dataclass
class Contents:
    """What one pass over a file notes, in its order."""

    path: Path
    images: list[dict[str, Any]] = field(default_factory=list)  # the keys that are NEEDED
    categories: list[dict[str, Any]] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)  # of annotations
    without_id: list[int] = field(default_factory=list)  # numbers of annotations
    image_ids: list[Any] = field(default_factory=list)  # of annotations
    category_ids: list[Any] = field(default_factory=list)  # of annotations
    without_box: list[int] = field(default_factory=list)  # numbers of annotations
    crowd: bytearray = field(default_factory=bytearray)
    masks: bytearray = field(default_factory=bytearray)
    image_places: array = field(default_factory=lambda: array("q"))  # start, end, start, ...
    places: array = field(default_factory=lambda: array("q"))
    sha256: str = ""
    is_lvis: bool = False

    def packed(self) -> CocoFile:
        """Sort by image. Raises NotCocoError for ids that are unusable or refer to nothing."""
        for name, key, problem in self.id_problems():
            raise NotCocoError(
                f"{self.path}: {key} of {name}: {problem}; number them, COCO's ids are integers"
            )
        order = sorted(range(len(self.images)), key=lambda i: self.images[i]["id"])
        at = {self.images[i]["id"]: place for place, i in enumerate(order)}
        known = {c["id"] for c in self.categories}
        if not known or len(known) != len(self.categories):
            raise NotCocoError(f"{self.path}: category ids are missing or not unique")
        if self.without_box:
            image = self.image_ids[self.without_box[0]]
            raise NotCocoError(f"{self.path}: an annotation of image {image} has no bbox")
        for image, category in zip(self.image_ids, self.category_ids, strict=True):
            if image not in at:
                raise NotCocoError(
                    f"{self.path}: an annotation names image {image!r}, which is not among the "
                    "file's images"
                )
            if category not in known:
                raise NotCocoError(
                    f"{self.path}: an annotation of image {image} has category {category!r}; the "
                    f"file's categories are {sorted(known)}"
                )
        image_of = np.fromiter((at[i] for i in self.image_ids), np.int64, len(self.image_ids))
        by_image = np.argsort(image_of, kind="stable")
        return CocoFile(
            self.path,
            self.sha256,
            sorted(self.categories, key=lambda c: c["id"]),
            _places(self.path, self.image_places).taken(np.asarray(order, np.int64)),
            np.asarray([self.images[i]["width"] > self.images[i]["height"] for i in order], bool),
            self.annotations().taken(by_image),
            np.searchsorted(image_of[by_image], np.arange(len(order) + 1)),
            np.frombuffer(self.crowd, bool)[by_image],
            np.frombuffer(self.masks, np.int8)[by_image],
            self.is_lvis,
        )

    def id_problems(self) -> list[tuple[str, str, str]]:
        """Return (list, key, problem) of ids, and of what names them, that cannot be used."""
        used = (
            ("images", "id", [record["id"] for record in self.images]),
            ("categories", "id", [record["id"] for record in self.categories]),
            ("annotations", "image_id", self.image_ids),
            ("annotations", "category_id", self.category_ids),
        )
        found = [(name, key, id_problem(ids)) for name, key, ids in used]
        return [(name, key, problem) for name, key, problem in found if problem]

    def annotations(self) -> Places:
        """Return the annotations in the file's order."""
        return _places(self.path, self.places)


def read_contents(path: Path, inspect: Inspect | None = None) -> Contents:
    """Read a file once; `inspect` sees every annotation of a known image.

    Raises FileNotFoundError if it is missing, ValueError if it is not JSON, NotCocoError if it is
    not in COCO's format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}")
    contents, pieces = Contents(path), JsonPieces(path)
    by_id: dict[Any, dict[str, Any]] = {}
    early: list[int] = []  # annotations before their images
    for piece in pieces:
        if piece.key in NEEDED:
            record = _checked(path, piece, contents)
            if piece.key == "images":
                by_id[_key(record["id"])] = _add_image(contents, record, piece)
            elif piece.key == "categories":
                contents.categories.append(record)
            else:
                _add_annotation(contents, record, piece)
                image = by_id.get(_key(record["image_id"]))
                if image is None:
                    early.append(len(contents.ids) - 1)
                elif inspect:
                    inspect(record, image)
    lacking = [name for name in NEEDED if name not in pieces.lists]
    if lacking:
        raise NotCocoError(f"{path}: not a COCO instances file: no list of {', '.join(lacking)}")
    contents.sha256 = pieces.sha256
    if inspect:
        annotations = contents.annotations()
        for number in early:
            image = by_id.get(_key(contents.image_ids[number]))
            if image is not None:
                inspect(annotations[number], image)
    return contents


def mask_kind(annotation: dict[str, Any]) -> Mask:
    """Return the kind of an annotation's segmentation."""
    mask = annotation.get("segmentation")
    if not mask:
        return Mask.NONE
    if isinstance(mask, dict):
        return Mask.RUN_LENGTHS
    return Mask.POLYGONS if any(is_polygon(p) for p in mask) else Mask.BROKEN


def is_polygon(numbers: Any) -> bool:
    """Return whether x1, y1, x2, y2, ... are three points or more."""
    return isinstance(numbers, list) and len(numbers) >= 6 and len(numbers) % 2 == 0


def _checked(path: Path, piece: Piece, contents: Contents) -> dict[str, Any]:
    """Return the record. Raises NotCocoError if it lacks a required key."""
    record, name = piece.value, piece.key
    counted = {"images": contents.images, "categories": contents.categories}
    number = len(counted.get(name, contents.ids))
    if not isinstance(record, dict):
        raise NotCocoError(f"{path}: {name}[{number}] is not a record but {str(record)[:40]!r}")
    if name == "images":
        name_files([record])
    lacking = [key for key in NEEDED[name] if key not in record]
    if lacking:
        raise NotCocoError(f"{path}: {name}[{number}] lacks {', '.join(lacking)}")
    for key, (fits, wanted) in FORMS.items():
        if key in record and not fits(record[key]):
            told = f"{key} is {str(record[key])[:40]!r}"
            raise NotCocoError(f"{path}: {name}[{number}]: {told}, expected {wanted}")
    return record


def _add_image(contents: Contents, record: dict[str, Any], piece: Piece) -> dict[str, Any]:
    contents.is_lvis = contents.is_lvis or is_lvis({"images": [record]})
    kept = {key: record[key] for key in NEEDED["images"]}
    contents.images.append(kept)
    contents.image_places.extend((piece.start, piece.end))
    return kept


def _add_annotation(contents: Contents, record: dict[str, Any], piece: Piece) -> None:
    if not isinstance(record["bbox"], list) or len(record["bbox"]) != 4:
        contents.without_box.append(len(contents.ids))
    if "id" not in record:
        contents.without_id.append(len(contents.ids))
    contents.ids.append(record.get("id"))
    contents.image_ids.append(record["image_id"])
    contents.category_ids.append(record["category_id"])
    contents.crowd.append(bool(record.get("iscrowd", 0)))
    contents.masks.append(mask_kind(record))
    contents.places.extend((piece.start, piece.end))


def _key(identifier: Any) -> Any:
    """Return a lookup key for an id, also for an unusable one."""
    return identifier if isinstance(identifier, int | float | str) else repr(identifier)


def _places(path: Path, pairs: array) -> Places:
    both = np.frombuffer(pairs, np.int64).reshape(-1, 2) if pairs else np.zeros((0, 2), np.int64)
    return Places(path, both[:, 0], both[:, 1])


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
