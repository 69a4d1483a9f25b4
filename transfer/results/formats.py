"""A table as Markdown, LaTeX, HTML and CSV: texts are escaped, every note is kept."""

import csv
import html
import io
import re
from collections.abc import Callable

from tabulate import LATEX_ESCAPE_RULES, tabulate

from pretrain.files.lineage import RANDOM
from transfer.results.cells import METHODS, Cell, Row, Table
from transfer.results.statistics import Difference

LABELS = "Labels before transfer"  # a column where any row's weights have seen some


def to_markdown(table: Table) -> str:
    """Return a Markdown table, one decimal, with its notes and the differences of several seeds."""
    notes = "".join(f"\n- {_markdown_text(note)}" for note in table.notes)
    text = grid_to_markdown(table) + notes + "\n"
    lines, header = differences_of(table)
    if lines:
        escaped = [[_markdown_text(cell) for cell in line] for line in lines]
        text += "\n## Differences\n\n"
        text += tabulate(escaped, header, tablefmt="github", disable_numparse=True) + "\n"
    return text


def grid_to_markdown(table: Table) -> str:
    """Return the Markdown table alone, without notes and differences."""
    return tabulate(*_grid(table, _markdown_text), tablefmt="github", disable_numparse=True) + "\n"


def differences_of(table: Table) -> tuple[list[list[str]], list[str]]:
    """Return the differences with an interval or another baseline than scratch, and a header."""
    header = ["Method", "Backbone", "Metric", "Baseline", "Difference", "95 % interval"]
    header += ["Runs", "Verdict", "Seeds to see it"]
    lines = [
        [_method(row), row.label, column.title, _baseline(kind, cell), *_tell(found)]
        for row in table.rows
        for column, cell in row.cells.items()
        for kind, found in cell.differences.items()
        if found.se is not None or kind != "scratch"
    ]
    return lines, header


def _baseline(kind: str, cell: Cell) -> str:
    """Return what a cell is compared with: a frozen encoder with the random one, not scratch."""
    records = cell.baselines.get(kind, ())
    frozen = kind == "scratch" and records and records[0].method == RANDOM
    return METHODS[RANDOM].lower() if frozen else kind


def _tell(found: Difference) -> list[str]:
    interval = "" if found.low is None else f"{found.low:+.1f} to {found.high:+.1f}"
    runs = f"{found.n} and {found.baseline_n}" + (", paired" if found.paired else "")
    needed = "" if found.seeds_needed is None else str(found.seeds_needed)
    return [f"{found.points:+.1f}", interval, runs, found.verdict, needed]


def _method(row: Row) -> str:
    return METHODS.get(row.method, row.method)


def _markdown_text(text: str) -> str:
    """Return names from a record as text that Markdown shows as it is: one line, no markup."""
    text = html.escape(_one_line(text), quote=False).replace("|", "&#124;")
    return text.replace("\\", "\\\\").replace("[", "\\[")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_latex(table: Table) -> str:
    """Return a LaTeX tabular (booktabs), its notes as a list and the differences, all escaped."""
    text = tabulate(*_grid(table, _one_line), tablefmt="latex_booktabs", disable_numparse=True)
    # a row that begins with [ or * would be taken for an argument of the \\ before it
    text = re.sub(r"^(\s*)([\[*])", r"\1{}\2", text, flags=re.MULTILINE) + "\n"
    items = "".join(f"\\item {{}}{_latex_text(note)}\n" for note in table.notes)
    text += f"\\begin{{itemize}}\n{items}\\end{{itemize}}\n" if items else ""
    lines, header = differences_of(table)
    if lines:
        told = [[_one_line(cell) for cell in line] for line in lines]
        text += tabulate(told, header, tablefmt="latex_booktabs", disable_numparse=True) + "\n"
    return text


def _latex_text(text: str) -> str:
    return "".join(LATEX_ESCAPE_RULES.get(char, char) for char in _one_line(text))


def to_html(table: Table) -> str:
    """Return an HTML table with notes and differences, without a page; tabulate escapes cells."""
    notes = "".join(f"<li>{html.escape(_one_line(note))}</li>" for note in table.notes)
    body = tabulate(*_grid(table, _one_line), tablefmt="html", disable_numparse=True)
    lines, header = differences_of(table)
    told = [[_one_line(cell) for cell in line] for line in lines]
    more = tabulate(told, header, tablefmt="html", disable_numparse=True) if told else ""
    return f"{body}\n<ul>{notes}</ul>\n{more}\n"


def _grid(table: Table, escape: Callable[[str], str]) -> tuple[list[list[str]], list[str]]:
    """Return the rows of cells and the header, every text passed through `escape`."""
    header = ["Method", "Backbone", *[LABELS] * table.shows_labels]
    for column in table.columns:
        header += [column.title, "Δ scratch"]
    body = []
    for row in table.rows:
        line = [_method(row), row.label, *[row.labels] * table.shows_labels]
        for column in table.columns:
            line += _show(row.cells.get(column))
        body.append([escape(text) for text in line])
    return body, [escape(title) for title in header]


def _show(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["missing", ""]
    spread = f" ± {cell.sd:.1f} (n={cell.n})" if cell.sd is not None else ""
    return [f"{cell.mean:.1f}{spread}", "" if cell.delta is None else f"{cell.delta:+.1f}"]


BASELINES = ("scratch", "supervised", "control")
GAP = ("delta", "low", "high", "verdict")  # of each baseline: delta_from_scratch, ...
CSV_HEADER = (
    *("method", "backbone", "lineage", "variant", "labels", "task", "dataset", "metric", "eval"),
    *("mean", "sd", "seeds", *(f"{name}_from_{kind}" for kind in BASELINES for name in GAP)),
    *("protocol", "notes"),
)


def to_csv(table: Table) -> str:
    """Return full precision, one line a row and metric, with what its runs say of themselves."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for row in table.rows:
        names = (row.method, row.backbone, row.lineage, row.variant, row.labels)
        for column, cell in row.cells.items():
            texts = (*names, column.task, column.dataset, column.metric, column.eval_hash)
            gaps = [value for kind in BASELINES for value in _gap(cell.differences.get(kind))]
            said = (cell.protocol, "; ".join((*cell.notes, *cell.remarks)))
            numbers = (cell.mean, cell.sd, cell.n, *gaps)
            writer.writerow([*map(_csv_text, texts), *numbers, *map(_csv_text, said)])
    return text.getvalue()


def _gap(found: Difference | None) -> tuple[float | str | None, ...]:
    return (found.points, found.low, found.high, found.verdict) if found else ("",) * len(GAP)


def _csv_text(text: str) -> str:
    """Return text with an apostrophe before what a spreadsheet would run as a formula."""
    text = _one_line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
