"""Published figures beside the suite's own: exact counterparts, and near ones with what differs.

Each figure of configs/published.json has a `match` (the task, dataset, shipped config if there is
one, timm architecture, lineage, metric and evaluation that it belongs to; `differs` where the
shipped config is known not to be the source's), or `unmatched`, the reason why no run can stand
beside it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tabulate import tabulate

from pretrain.files.lineage import Lineage, Stage, method_of, read_stages
from transfer.results.cells import METHODS, Cell, Row, Table
from transfer.results.groups import describe_evaluation
from transfer.results.record import Result

Figure = Mapping[str, Any]
NO_CONFIG = "settings (those of the source are not shipped)"


class Known(NamedTuple):
    """A published dataset: the names that records give it, its classes and images."""

    names: tuple[str, ...]
    classes: int
    images: tuple[int, int]  # of training and evaluation


DATASETS = {
    "coco_2017": Known(("coco", "coco2017"), 80, (117_266, 5_000)),
    "ade20k": Known(("ade20k", "adechallengedata2016"), 150, (20_210, 2_000)),
    "imagenet_1k": Known(("imagenet", "imagenet1k", "in1k"), 1000, (1_281_167, 50_000)),
    "cifar100": Known(("cifar100",), 100, (50_000, 10_000)),
}


@dataclass(frozen=True)
class Match:
    """A cell of the table and a figure; `differs` is empty where they should agree."""

    row: Row
    ours: float
    figure: Figure
    differs: tuple[str, ...]

    @property
    def points(self) -> float:
        """Return our figure minus the published one."""
        return self.ours - float(self.figure["value"])


@dataclass(frozen=True)
class Line:
    """A row of a published table: its figure, ours where there is one, and what is to be said."""

    figure: Figure
    ours: float | None
    remark: str

    @property
    def points(self) -> float | None:
        """Return our figure minus the published one; None where nothing has run."""
        return None if self.ours is None else self.ours - float(self.figure["value"])


def matches(table: Table, published: Sequence[Figure]) -> list[Match]:
    """Return every figure that belongs beside a run of the table, exact ones first."""
    by_key: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in published:
        match = figure.get("match")
        if match is not None:
            key = (match["task"], match["arch"], method_of(read_stages(match["stages"])))
            by_key.setdefault(key, []).append(figure)
    found = []
    for row, cell, record in _measured(table):
        key = (record.task, record.backbone.partition(".")[0], record.method)
        for figure in by_key.get(key, ()):
            if figure["match"]["metric"] in cell.means and is_comparable(record, figure["match"]):
                ours = cell.means[figure["match"]["metric"]]
                found.append(Match(row, ours, figure, differences(record, figure["match"])))
    return sorted(found, key=lambda match: bool(match.differs))


def _measured(table: Table) -> Iterator[tuple[Row, Cell, Result]]:
    """Yield one cell for each task, dataset and evaluation of a row: it knows all metrics."""
    for row in table.rows:
        seen = set()
        for column, cell in row.cells.items():
            place = (column.task, column.dataset, column.eval_hash)
            if cell.example is not None and place not in seen:
                seen.add(place)
                yield row, cell, cell.example


def is_comparable(record: Result, match: Mapping[str, Any]) -> bool:
    """Return whether dataset and number of views are the figure's: else nothing is comparable.

    The name alone does not tell: other data may lie in folders of a known dataset's names.
    """
    known = DATASETS[match["dataset"]]
    own = re.sub(r"[^a-z0-9]", "", record.dataset.name.lower())
    same = own in known.names and len(record.dataset.classes) == known.classes
    return same and evaluation_of(record) == match["evaluation"]


def evaluation_of(record: Result) -> str:
    """Return a record's evaluation in the words of a match."""
    return describe_evaluation({k: v for k, v in record.eval.items() if k in ("input_size", "tta")})


def differences(record: Result, match: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a run differs in from what the figure was made with, as far as it is stated."""
    counts = (record.dataset.train_images, record.dataset.val_images)
    found = list(match.get("differs", ()))
    if counts != DATASETS[match["dataset"]].images:
        found.append(f"images ({counts[0]:,} and {counts[1]:,})")
    found += _of_lineage(tuple(record.stages), read_stages(match["stages"]))
    if record.backbone_args:
        found.append("arguments of the backbone")
    if "config" not in match:
        return (*found, NO_CONFIG)
    if record.config is None or record.config.name != match["config"]:
        made_from = record.config.name if record.config else "one of your own"
        return (*found, f"config ({made_from}, not {match['config']})")
    changed = [*record.config.train, *(k for k in record.config.eval if k not in _OF_VIEWS)]
    return (*found, *changed)


# settings of an evaluation that the number of views changes
_OF_VIEWS = ("tta", "pipeline", "mode", "crop_size", "stride")


def _of_lineage(ours: Lineage, theirs: Lineage) -> list[str]:
    """Return the settings of the stages that both state and that differ."""
    found = []
    for own, other in zip(ours, theirs, strict=True):
        for name in ("data", "epochs", "input_size"):
            mine, stated = getattr(own, name), getattr(other, name)
            if stated is not None and mine != stated and not _unknown(own, name):
                found.append(f"{name} of {own.method} ({mine or 'not stated'}, not {stated})")
    return found


def _unknown(stage: Stage, name: str) -> bool:
    """Return whether a release leaves a stage's length open, as their sources do."""
    return name in ("epochs", "input_size") and getattr(stage, name) is None and stage.steps is None


def beside_published(found: Sequence[Match]) -> str:
    """Return a Markdown table of the matches; "" where there is none."""
    lines = [
        [
            METHODS.get(match.row.method, match.row.method),
            match.figure["backbone"],
            match.figure["metric"],
            f"{match.ours:.1f}",
            f"{match.figure['value']:.1f}",
            f"{match.points:+.1f}",
            _one_line(", ".join(match.differs)),
            match.figure["schedule"],
            source_of(match.figure),
        ]
        for match in found
    ]
    header = ["Method", "Backbone", "Metric", "Ours", "Published", "Δ", "Differs in"]
    header += ["Published setting", "Source"]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True) if lines else ""


def lines_to_markdown(lines: Sequence[Line]) -> str:
    """Return a published table with ours beside it: a line a figure."""
    rows = [
        [
            METHODS.get(str(line.figure["method"]), str(line.figure["method"])),
            line.figure["backbone"],
            line.figure["metric"],
            f"{line.figure['value']:.1f}",
            "" if line.ours is None else f"{line.ours:.1f}",
            "" if line.points is None else f"{line.points:+.1f}",
            _one_line(line.remark),
            _one_line(line.figure["schedule"]),
            _one_line(line.figure["source"]),
        ]
        for line in lines
    ]
    header = ["Method", "Backbone", "Metric", "Published", "Ours", "Δ", "", "Setting", "Source"]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())


def source_of(figure: Figure) -> str:
    """Return where a figure was read, and how surely."""
    secondary = figure.get("confidence") not in (None, "read")
    return figure["source"] + (f" ({figure['confidence']})" if secondary else "")
