"""Records -> one comparison table. Pure functions.

A cell is the mean over seeds. Its differences are taken from baselines of the same backbone that
were trained and evaluated alike: scratch (with the best learning rate and layer decay that it was
given), training on labels, and the control with shuffled weights.
"""

from collections.abc import Mapping, Sequence

from pretrain.files.lineage import CONTROL, RANDOM, Stage
from transfer.results.cells import COLUMNS, METHODS, Cell, Column, Row, Table
from transfer.results.formats import to_csv, to_html, to_latex, to_markdown
from transfer.results.groups import (
    Runs,
    backbone_name,
    by_seed,
    columns_of,
    comparable,
    differing_keys,
    layer_decay_of,
    place_of,
    rows_of,
)
from transfer.results.record import Result
from transfer.results.statistics import RULE, difference, summary

__all__ = [
    "COLUMNS",
    "METHODS",
    "Cell",
    "Column",
    "Row",
    "Table",
    "backbone_name",
    "build_table",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
]
BASELINES = ("scratch", "supervised", "control")
MOST_KEYS = 8  # settings named in a note


def build_table(records: Sequence[Result]) -> Table:
    """Group records into a table. Raises ValueError if there are no records."""
    if not records:
        raise ValueError("no records: give folders that hold finished runs (result.json)")
    columns = columns_of(records)
    found = rows_of(records)
    labels = _labels(found)
    alike = comparable(records)
    rows, notes = [], []
    for runs in found:
        cells = {}
        for column in columns:
            made = _cell(runs, column, found, alike)
            if made is not None:
                cells[column] = made[0]
                notes += [f"{_named(runs)}, {column.title}: {note}" for note in made[1]]
        lineage = ", then ".join(map(str, runs.lineage.kind)) or "random weights"
        label = labels[id(runs)]
        rows.append(
            Row(runs.method, runs.lineage.backbone, label, cells, lineage, runs.variant)
        )  # fmt: skip
    return Table(columns, rows, [*_notes(rows, columns, records), *dict.fromkeys(notes)])


def _named(runs: Runs) -> str:
    return f"{METHODS.get(runs.method, runs.method)} {runs.lineage.backbone}"


def _of(records: Sequence[Result], column: Column) -> list[Result]:
    return [
        record
        for record in records
        if record.eval_hash == column.eval_hash
        and place_of(record) == (column.task, column.dataset)
        and column.metric in record.metrics
    ]


def _cell(
    runs: Runs, column: Column, rows: Sequence[Runs], alike: Mapping[str, str]
) -> tuple[Cell, list[str]] | None:
    records = _of(runs.records, column)
    if not records:
        return None
    values, notes = by_seed(records, column.metric)
    whole = summary(list(values.values()))
    differences = {}
    for kind in BASELINES:
        chosen, more = _baseline(kind, runs, column, rows, alike)
        if chosen:
            differences[kind] = difference(values, by_seed(chosen, column.metric)[0])
            notes += more
    scratch = differences.get("scratch")
    delta = scratch.points if scratch else None
    said = tuple(dict.fromkeys(note for record in records for note in run_notes(record)))
    cell = Cell(
        mean=whole.mean,
        sd=whole.sd,
        n=whole.n,
        delta=delta,
        protocol=records[0].train_hash,
        differences=differences,
        notes=said,
        means=_means(records),
        example=records[0],
    )
    return cell, notes


def _means(records: Sequence[Result]) -> dict[str, float]:
    """Return the mean over seeds of every metric that all the records have."""
    shared = set.intersection(*(set(record.metrics) for record in records))
    return {name: summary(list(by_seed(records, name)[0].values())).mean for name in sorted(shared)}


def _baseline(
    kind: str, runs: Runs, column: Column, rows: Sequence[Runs], alike: Mapping[str, str]
) -> tuple[list[Result], list[str]]:
    """Return the baseline's best runs under comparable training, and a note on them."""
    ours = _of(runs.records, column)[0]
    found = []
    for other in rows:
        if other is runs or not _is_baseline(kind, other, runs):
            continue
        theirs = _of(other.records, column)
        if theirs and alike[theirs[0].train_hash] == alike[ours.train_hash]:
            found.append(theirs)
    if not found:
        return [], []
    best = max(found, key=lambda r: summary(list(by_seed(r, column.metric)[0].values())).mean)
    if kind != "scratch":
        return best, []
    decays = [layer_decay_of(r[0]) for r in found]
    if best[0].train_hash != ours.train_hash:
        return best, [f"scratch has its own {_tuned(best[0], ours)}, the best of {len(found)}"]
    inherited = all(decay is not None and decay < 1 for decay in decays)
    told = (
        f"scratch was trained with fine-tuning's layer decay {decays[0]} alone, under which its "
        "first layers hardly learn: Δ may be too large. Train it with layer decay 1 as well"
    )
    return best, [told] * inherited


def _is_baseline(kind: str, other: Runs, runs: Runs) -> bool:
    if other.lineage.backbone != runs.lineage.backbone:
        return False
    theirs, ours = other.lineage.kind, runs.lineage.kind
    if kind == "scratch":  # of a frozen encoder: the random one, whose training is frozen too
        return _untrained(theirs) and not _untrained(ours)
    if kind == "supervised":
        learnt = ours and not all(stage.labels for stage in ours)
        return bool(learnt) and len(theirs) == 1 and theirs[0].method == "supervised"
    control = bool(theirs) and theirs[-1].method == CONTROL
    return control and theirs[:-1] == ours and bool(ours)


def _untrained(stages: Sequence[Stage]) -> bool:
    return [stage.method for stage in stages] in ([], [RANDOM])


def _tuned(scratch: Result, ours: Result) -> str:
    return ", ".join(differing_keys([ours.train, scratch.train]))


def run_notes(record: Result) -> list[str]:
    """Return what a record says of its run that a reader must know."""
    notes = list(record.notes)
    if record.environment.dirty:
        notes.append("made from a tree with uncommitted changes")
    if record.environment.dirty is None:
        notes.append("made outside a git checkout")
    return notes


def _labels(rows: Sequence[Runs]) -> dict[int, str]:
    """Return names for the table: arguments give way to stars, one more for each variant of a name.

    What tells two rows of one method and backbone apart stands behind the name.
    """
    stars: dict[str, str] = {}
    for runs in rows:
        name, bracket, _ = runs.lineage.backbone.partition("(")
        variants = sum(b.startswith(name + "(") for b in stars)
        stars.setdefault(runs.lineage.backbone, name + "*" * (variants + 1) * bool(bracket))
    plain = [(runs.method, runs.lineage.backbone) for runs in rows]
    labels = {}
    for runs, key in zip(rows, plain, strict=True):
        more = _apart(runs, [r for r in rows if (r.method, r.lineage.backbone) == key])
        labels[id(runs)] = stars[runs.lineage.backbone] + (f" [{more}]" if more else "")
    return labels


def _apart(runs: Runs, others: Sequence[Runs]) -> str:
    """Return what a row has that others of its method and backbone have not."""
    if len(others) == 1:
        return ""
    parts = []
    if len({other.lineage.kind for other in others}) > 1:
        parts.append(", then ".join(map(str, runs.lineage.kind)))
    same = [other for other in others if other.lineage.kind == runs.lineage.kind]
    files = {(other.lineage.recipe, other.lineage.weights) for other in same}
    if len(files) > 1:
        parts.append(f"weights {(runs.records[0].sha256 or '')[:8]}")
    return "; ".join([*parts, *([runs.variant] if runs.variant else [])])


def _notes(rows: list[Row], columns: list[Column], records: Sequence[Result]) -> list[str]:
    pairs = {(r.label.split(" [")[0], r.backbone) for r in rows}
    notes = sorted(f"{label} = {name}" for label, name in pairs if label != name)
    cells = [cell for row in rows for cell in row.cells.values()]
    notes += sorted({f"{_method(row)} = {row.lineage}" for row in rows if row.method != "scratch"})
    if any(cell.n == 1 for cell in cells):
        notes.append(
            "One seed where no ± is given: a difference of the size of run-to-run noise means "
            "nothing."
        )
    if any(d.se is not None for cell in cells for d in cell.differences.values()):
        notes.append(RULE)
    notes += _protocol_notes(rows, columns, records) + _evaluation_notes(columns, records)
    missing = [
        f"{_method(row)} {column.title}"
        for row in rows
        for column in columns
        if row.method != "scratch" and column in row.cells and row.cells[column].delta is None
    ]
    if missing:
        notes.append(f"No scratch run under the same protocol, so no Δ: {', '.join(missing)}.")
    said: dict[str, list[str]] = {}
    for row in rows:
        for note in dict.fromkeys(note for cell in row.cells.values() for note in cell.notes):
            said.setdefault(note, []).append(f"{_method(row)} {row.label}")
    return notes + [f"{note}: {', '.join(who)}." for note, who in said.items()]


def _method(row: Row) -> str:
    return METHODS.get(row.method, row.method)


def _protocol_notes(rows: list[Row], columns: list[Column], records: Sequence[Result]) -> list[str]:
    protocols = {record.train_hash: record.train for record in records}
    notes = []
    for column in columns:
        hashes = sorted({row.cells[column].protocol for row in rows if column in row.cells})
        if len(hashes) > 1:
            keys = _some(differing_keys([protocols[h] for h in hashes]))
            notes.append(
                f"{column.title}: {len(hashes)} protocols in this column ({', '.join(hashes)}); "
                f"they differ in {keys}. Compare a row with its own scratch row."
            )
    return notes


def _evaluation_notes(columns: list[Column], records: Sequence[Result]) -> list[str]:
    evaluations = {record.eval_hash: record.eval for record in records}
    notes = []
    for place in sorted({(column.task, column.dataset) for column in columns}):
        hashes = {c.eval_hash for c in columns if (c.task, c.dataset) == place}
        if len(hashes) > 1:
            keys = _some(differing_keys([evaluations[h] for h in sorted(hashes)]))
            notes.append(
                f"{place[0]} on {place[1]}: {len(hashes)} evaluations, differing in {keys}."
            )
    return notes


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MOST_KEYS} more settings" if len(keys) > MOST_KEYS else ""
    return ", ".join(keys[:MOST_KEYS]) + more
