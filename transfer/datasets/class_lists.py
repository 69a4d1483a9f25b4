"""Lists of labelled images: `train.csv` with path,class or `train.txt` with "path class"."""

import csv
import os
from pathlib import Path

import numpy as np

from pretrain.data.names import Names
from pretrain.data.sources import Files
from transfer.datasets.class_labels import by_number

CLASSES = "classes.txt"  # beside a list whose classes are numbers: their names, one a line
HEADER = ("path", "image", "file", "filename", "image_id")


def read_list(path: Path) -> tuple[Files, np.ndarray, tuple[str, ...]]:
    """Return the images of a list, their labels and the classes.

    Paths are relative to the list's folder. Classes that are numbers stand for lines of
    classes.txt, where there is one. Raises ValueError for a line without path or class.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _text_rows(path)
    if not rows:
        raise ValueError(f"{path} names no image: write one path and its class a line")
    for number, row in rows:
        if len(row) != 2 or not all(row):
            raise ValueError(f"{path}, line {number}: expected a path and a class, got {row}")
    names = Names.of([os.fsencode(row[0]) for _, row in rows])
    told = path.parent / CLASSES
    classes = told.read_text().splitlines() if told.is_file() else []
    labels = by_number([row[1] for _, row in rows], [name.strip() for name in classes if name])
    return Files(path.parent, names), *labels


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(i, [cell.strip() for cell in row]) for i, row in enumerate(csv.reader(file), 1)]
    if rows and rows[0][1][0].lower() in HEADER:
        rows = rows[1:]
    return [(number, row) for number, row in rows if any(row)]


def _text_rows(path: Path) -> list[tuple[int, list[str]]]:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [
        (number, line.rsplit(maxsplit=1))
        for number, line in lines
        if line.strip() and not line.startswith("#")
    ]
