"""Records -> one comparison table, and the published figures beside it. Pure functions.

One row a method and backbone; one column a task, dataset and metric. A cell is the mean over
seeds; its difference is taken from the same backbone trained from scratch under the same protocol
(equal `protocol_hash`), and is left out, with a note, where no such run is there.
"""

import csv
import html
import io
import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from transfer.results.record import Result
from transfer.tasks import TASKS

COLUMNS = {name: task.columns for name, task in TASKS.items()}


METHODS = {"spark": "SparK", "fcmae": "FCMAE", "beit": "BEiT", "mae": "MAE", "scratch": "Scratch"}


@dataclass(frozen=True)
class Column:
    """A metric of a task on a dataset; `title` names the dataset where there are several."""

    task: str
    dataset: str
    metric: str
    title: str


@dataclass(frozen=True)
class Cell:
    """Mean over `n` seeds in percent, standard deviation (n > 1), difference from scratch."""

    mean: float
    sd: float | None
    n: int
    delta: float | None
    protocol: str  # protocol_hash


@dataclass(frozen=True)
class Row:
    """A method on a backbone; `cells` lacks the columns that it has no run for."""

    method: str
    backbone: str
    label: str  # the backbone's name in the table
    cells: dict[Column, Cell]


@dataclass(frozen=True)
class Table:
    """Rows, columns and the notes that belong under them."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str]


def build_table(records: Sequence[Result]) -> Table:
    """Group records into a table; ValueError where there is none or a cell mixes protocols."""
    if not records:
        raise ValueError("no records: give folders that hold finished runs (result.json)")
    columns = _columns(records)
    groups: dict[tuple[str, str], list[Result]] = {}
    for record in records:
        groups.setdefault((record.method, backbone_name(record)), []).append(record)
    order = sorted(groups, key=lambda key: (key[1], key[0] != "scratch", key[0]))
    labels = _labels(backbone for _, backbone in order)
    rows = [Row(m, b, labels[b], _cells(groups, (m, b), columns)) for m, b in order]
    return Table(columns, rows, _notes(rows, columns, records))


def backbone_name(record: Result) -> str:
    """The timm name, with its arguments where the architecture is not the stock one."""
    args = (f"{k}={json.dumps(v)}" for k, v in sorted(record.backbone_args.items()))
    return f"{record.backbone}({', '.join(args)})" if record.backbone_args else record.backbone


def _columns(records: Iterable[Result]) -> list[Column]:
    seen = sorted({(r.task, r.dataset.name) for r in records})
    tasks = [task for task, _ in seen]
    return [
        Column(task, name, metric, metric if tasks.count(task) == 1 else f"{metric} ({name})")
        for task, name in seen
        for metric in COLUMNS[task]
    ]


def _cells(
    groups: Mapping[tuple[str, str], list[Result]], key: tuple[str, str], columns: list[Column]
) -> dict[Column, Cell]:
    method, backbone = key
    scratch = groups.get(("scratch", backbone), [])
    cells = {}
    for column in columns:
        runs = _of(groups[key], column)
        if not runs:
            continue
        hashes = {r.protocol_hash for r in runs}
        if len(hashes) > 1:
            raise ValueError(
                f"{METHODS.get(method, method)} on {backbone}: runs of {len(hashes)} protocols "
                f"({', '.join(sorted(hashes))}) would share a cell of {column.title}; "
                "make one table a protocol"
            )
        baseline = [r for r in _of(scratch, column) if r.protocol_hash in hashes]
        cells[column] = _cell(runs, baseline if method != "scratch" else [], column.metric)
    return cells


def _of(records: Iterable[Result], column: Column) -> list[Result]:
    return [
        r
        for r in records
        if (r.task, r.dataset.name) == (column.task, column.dataset) and column.metric in r.metrics
    ]


def _cell(runs: list[Result], baseline: list[Result], metric: str) -> Cell:
    values = [r.metrics[metric] for r in runs]
    mean = statistics.fmean(values)
    delta = mean - statistics.fmean(r.metrics[metric] for r in baseline) if baseline else None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Cell(mean, sd, len(values), delta, runs[0].protocol_hash)


def _notes(rows: list[Row], columns: list[Column], records: Sequence[Result]) -> list[str]:
    notes = sorted({f"{row.label} = {row.backbone}" for row in rows if row.label != row.backbone})
    if any(c.n == 1 for row in rows for c in row.cells.values()):
        notes.append(
            "One seed where no ± is given: a difference of the size of run-to-run noise means "
            "nothing."
        )
    protocols = {r.protocol_hash: r.protocol for r in records}
    for column in columns:
        hashes = sorted({row.cells[column].protocol for row in rows if column in row.cells})
        if len(hashes) > 1:
            keys = _differing([protocols[h] for h in hashes])
            notes.append(
                f"{column.title}: {len(hashes)} protocols in this column ({', '.join(hashes)}); "
                f"they differ in {', '.join(keys)}. Compare a row with its own scratch row."
            )
    missing = [
        f"{METHODS.get(row.method, row.method)} {column.title}"
        for row in rows
        for column in columns
        if row.method != "scratch" and column in row.cells and row.cells[column].delta is None
    ]
    if missing:
        notes.append(f"No scratch run under the same protocol, so no Δ: {', '.join(missing)}.")
    return notes


def _differing(protocols: list[dict[str, Any]]) -> list[str]:
    keys = sorted(set().union(*protocols))
    return [k for k in keys if len({json.dumps(p.get(k), default=str) for p in protocols}) > 1]


def to_markdown(table: Table) -> str:
    """A Markdown table, one decimal, with its notes."""
    notes = "".join(f"\n- {_markdown_text(note)}" for note in table.notes)
    grid = _grid(table, _markdown_text)
    return tabulate(*grid, tablefmt="github", disable_numparse=True) + "\n" + notes + "\n"


def _markdown_text(text: str) -> str:
    """Return names from a record as text that Markdown shows as it is: one line, no markup."""
    text = html.escape(_one_line(text), quote=False).replace("|", "&#124;")
    return text.replace("\\", "\\\\").replace("[", "\\[")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_latex(table: Table) -> str:
    """A LaTeX tabular (booktabs); tabulate escapes the cells."""
    text = tabulate(*_grid(table, _one_line), tablefmt="latex_booktabs", disable_numparse=True)
    # a row that begins with [ or * would be taken for an argument of the \\ before it
    return re.sub(r"^(\s*)([\[*])", r"\1{}\2", text, flags=re.MULTILINE) + "\n"


def to_html(table: Table) -> str:
    """An HTML table with its notes, without a page around it; tabulate escapes the cells."""
    notes = "".join(f"<li>{html.escape(_one_line(note))}</li>" for note in table.notes)
    body = tabulate(*_grid(table, _one_line), tablefmt="html", disable_numparse=True)
    return f"{body}\n<ul>{notes}</ul>\n"


def _labels(backbones: Iterable[str]) -> dict[str, str]:
    """Names for the table: arguments give way to stars, one more for each variant of a name."""
    labels: dict[str, str] = {}
    for backbone in backbones:
        name, bracket, _ = backbone.partition("(")
        variants = sum(b.startswith(name + "(") for b in labels)
        labels.setdefault(backbone, name + "*" * (variants + 1) * bool(bracket))
    return labels


def _grid(table: Table, escape: Callable[[str], str]) -> tuple[list[list[str]], list[str]]:
    """Return the rows of cells and the header, every text passed through `escape`."""
    header = ["Method", "Backbone"]
    for column in table.columns:
        header += [column.title, "Δ scratch"]
    body = []
    for row in table.rows:
        line = [METHODS.get(row.method, row.method), row.label]
        for column in table.columns:
            line += _show(row.cells.get(column))
        body.append([escape(text) for text in line])
    return body, [escape(title) for title in header]


def _show(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["missing", ""]
    spread = f" ± {cell.sd:.1f} (n={cell.n})" if cell.sd is not None else ""
    return [f"{cell.mean:.1f}{spread}", "" if cell.delta is None else f"{cell.delta:+.1f}"]


def to_csv(table: Table) -> str:
    """Full precision, one line a row and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "backbone", "task", "dataset", "metric", "mean", "sd", "seeds",
         "delta_from_scratch", "protocol"]
    )  # fmt: skip
    for row in table.rows:
        for column, cell in row.cells.items():
            texts = (row.method, row.backbone, column.task, column.dataset, column.metric)
            writer.writerow(
                [*map(_csv_text, texts), cell.mean, cell.sd, cell.n, cell.delta,
                 _csv_text(cell.protocol)]
            )  # fmt: skip
    return text.getvalue()


def _csv_text(text: str) -> str:
    """Return text with an apostrophe before what a spreadsheet would run as a formula."""
    text = _one_line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
