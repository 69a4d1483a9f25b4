"""The runs of a report: a record, the folder of its run, and what the run left there."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from pretrain.files.image import BROKEN
from pretrain.run import folder
from transfer.results.cells import METHODS, Row, Table
from transfer.results.record import EVALUATIONS, RECORD_NAME, Result, read_result


@dataclass(frozen=True)
class Run:
    """A record, and the folder of the run that it tells of."""

    folder: Path
    record: Result
    evaluation: Path | None = None  # folder of a later evaluation's pictures

    @property
    def method(self) -> str:
        """Name of the method, as in the tables."""
        return METHODS.get(self.record.method, self.record.method)

    @property
    def label(self) -> str:
        """Name of the method and the backbone."""
        return f"{self.method}, {self.record.backbone}"

    @property
    def pretraining(self) -> Path | None:
        """Folder of the weights file that the run began with, if it is there.

        A relative path was given from a folder around the run's, or from this process's.
        """
        file = (self.record.weights or {}).get("file")
        if not file:
            return None
        around = [Path(), *self.folder.resolve().parents]
        return next((p for folder in around if (p := (folder / file).parent).is_dir()), None)

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the run's log.jsonl."""
        return read_log(self.folder / folder.LOG)

    def predictions(self, width: int) -> str:
        """Return the picture of the run's predictions as a data URI, "" without one."""
        return data_uri((self.evaluation or self.folder) / folder.PREDICTIONS_PICTURE, width)


def read_run(path: Path) -> Run:
    """Read a run's folder, its record, or the record of a later evaluation.

    Raises ValueError or OSError as read_result does.
    """
    path = path / RECORD_NAME if path.is_dir() else path
    record = read_result(path)
    if path.parent.name == EVALUATIONS:
        return Run(path.parent.parent, record, path.with_suffix(""))
    return Run(path.parent, record)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log.jsonl; none if there is no log or it is damaged."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    except ValueError:
        return []
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def trainings(runs: Iterable[Run]) -> list[Run]:
    """Return one run of each folder: later evaluations share their training's."""
    return list({run.folder: run for run in runs}.values())


def pretrainings(runs: Iterable[Run]) -> list[Run]:
    """Return one run of each weights file."""
    return list({run.record.sha256: run for run in runs if run.record.weights}.values())


def rows_by_run(runs: Sequence[Run], table: Table) -> list[tuple[Row, list[Run]]]:
    """Return the rows of the table, each with its runs by task and seed."""
    by_record = {id(run.record): run for run in runs}
    found = []
    for row in table.rows:
        own = {id(record) for cell in row.cells.values() for record in cell.records}
        mine = [by_record[key] for key in own if key in by_record]
        mine.sort(key=lambda r: (r.record.task, r.record.eval_hash, r.record.seed, r.folder))
        found.append((row, mine))
    return found


def name_of(row: Row) -> str:
    """Return the method and the backbone of a row."""
    return f"{METHODS.get(row.method, row.method)} {row.label}"


def data_uri(path: Path, width: int) -> str:
    """Return a picture as a data URI, at most `width` pixels wide; "" if it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except BROKEN:
        return ""
    picture.thumbnail((width, 10 * width))
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
