"""Gains over scratch against what was varied: the encoder's size, pretraining's length, labels."""

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfer.results.cells import METHODS, Cell, Column, Row, Table
from transfer.results.groups import TUNED
from transfer.results.protocol import without
from transfer.results.record import Result
from transfer.results.report.figures import Curve, Figure, scaling
from transfer.results.statistics import Difference

IMAGES = ("data", "train_share")  # of a training protocol: which images it trained on


@dataclass(frozen=True)
class Place:
    """Where a row stands on each scale; `setting` tells trainings apart that differ otherwise."""

    method: str
    backbone: str
    length: tuple[float, str] | None  # of the first pretraining, in epochs or in steps
    labels: int
    setting: str
    frozen: bool


@dataclass(frozen=True)
class Scale:
    """A quantity that suites vary.

    `key` is a place's value on it, `fixed` all that a line holds, `number` where to draw it, None
    where it is not known.
    """

    heading: str
    question: str
    axis: str
    key: Callable[[Place], Hashable]
    fixed: Callable[[Place], tuple[Hashable, ...]]
    number: Callable[[Place, Result], float | None]


SIZE = Scale(
    "Gain against the size of the encoder",
    "Does the gain grow with the network?",
    "parameters of the encoder (M)",
    lambda place: place.backbone,
    lambda place: (place.method, place.labels, place.frozen),
    lambda _, record: encoder_millions(record),
)
LENGTH = Scale(
    "Gain against the length of pretraining",
    "Does longer pretraining help? The same network and labels throughout a curve.",
    "pretraining ({unit})",
    lambda place: place.length,
    lambda place: (place.method, place.backbone, place.labels, place.setting),
    lambda place, _: place.length and place.length[0],
)
LABELS = Scale(
    "Gain against the number of labels",
    "Is pretraining worth more where labels are few? The same weights throughout a curve.",
    "labelled images",
    lambda place: place.labels,
    lambda place: (place.method, place.backbone, place.length, place.setting),
    lambda place, _: place.labels,
)


@dataclass(frozen=True)
class Line:
    """The gains of one method along a scale, in its order."""

    place: Place  # of any of its points: what it holds fixed
    label: str
    x: list[float]
    differences: list[Difference]


def lines(table: Table, column: Column, scale: Scale) -> list[Line]:
    """Return a line for each method that has two places or more on the scale in a column."""
    groups: dict[tuple[Hashable, ...], dict[Hashable, tuple[Place, Result, Difference]]] = {}
    for row, cell in _compared(table, column):
        place = place_of(row, cell)
        if scale.key(place) is not None:
            found = groups.setdefault(scale.fixed(place), {})
            found[scale.key(place)] = (place, cell.records[0], cell.differences["scratch"])
    long = [list(found.values()) for found in groups.values() if len(found) > 1]
    drawn = []
    for points in long:
        numbered = [(scale.number(place, record), gain) for place, record, gain in points]
        known = sorted(((x, gain) for x, gain in numbered if x is not None), key=lambda p: p[0])
        if len(known) > 1:
            place = points[0][0]
            label = _label(place, [other[0][0] for other in long], scale)
            drawn.append(Line(place, label, [x for x, _ in known], [gain for _, gain in known]))
    return drawn


def _compared(table: Table, column: Column) -> Iterator[tuple[Row, Cell]]:
    for row in table.rows:
        cell = row.cells.get(column)
        if cell and cell.records and "scratch" in cell.differences:
            yield row, cell


def place_of(row: Row, cell: Cell) -> Place:
    """Return where a row's cell stands on each scale."""
    record = cell.records[0]
    first = record.stages[0] if record.stages else None
    length = None
    if first is not None and first.steps is not None:
        length = (float(first.steps), "steps")
    elif first is not None and first.epochs is not None:
        length = (first.epochs, "epochs")
    setting = json.dumps(without(record.train, (*TUNED, *IMAGES)), sort_keys=True)
    frozen = record.train.get("freeze") == "backbone"
    return Place(row.method, row.backbone, length, record.dataset.train_images, setting, frozen)


def _label(place: Place, all_places: Sequence[Place], scale: Scale) -> str:
    """Return the method, and what tells its line from others of the method."""
    others = [other for other in all_places if other.method == place.method]

    def differs(of: Callable[[Place], Any]) -> bool:
        return len({of(other) for other in others}) > 1

    words = [METHODS.get(place.method, place.method)]
    if scale is not SIZE and differs(lambda p: p.backbone):
        words.append(place.backbone.partition("(")[0])
    if scale is not LENGTH and place.length and differs(lambda p: p.length):
        words.append(f"{place.length[0]:g} {place.length[1]}")
    if scale is not LABELS and differs(lambda p: p.labels):
        words.append(f"{place.labels} labels")
    if place.frozen and differs(lambda p: p.frozen):
        words.append("frozen")
    return ", ".join(words)


def axis_of(scale: Scale, found: Sequence[Line]) -> str:
    """Return the text of a scale's axis."""
    units = {line.place.length[1] for line in found if line.place.length}
    return scale.axis.format(unit="/".join(sorted(units)))


@dataclass(frozen=True)
class Section:
    """The figures of one scale, a panel a column."""

    heading: str
    question: str
    panels: list[Figure]


def scaling_sections(table: Table, series: Mapping[str, int]) -> list[Section]:
    """Return a section for each scale on which a method stands in two places or more."""
    sections = []
    for scale in (SIZE, LENGTH, LABELS):
        panels = []
        for column in table.columns:
            if found := lines(table, column, scale):
                drawn = [_curve(line, series) for line in found]
                panels.append(scaling(column.title, drawn, axis_of(scale, found)))
        if panels:
            sections.append(Section(scale.heading, scale.question, panels))
    return sections


def _curve(line: Line, series: Mapping[str, int]) -> Curve:
    half = [0.0 if d.high is None else d.high - d.points for d in line.differences]
    y = [d.points for d in line.differences]
    return Curve(line.label, series[line.place.method], line.x, y, half=half)


def encoder_millions(record: Result) -> float | None:
    """Return the parameters of a record's encoder in millions, counted without its weights.

    None for a name that is not timm's.
    """
    import timm  # takes seconds: a page without this figure does not need it
    import torch

    if not timm.is_model(record.backbone):
        return None
    with torch.device("meta"):
        encoder = timm.create_model(record.backbone, num_classes=0, **record.backbone_args)
    return sum(p.numel() for p in encoder.parameters()) / 1e6
