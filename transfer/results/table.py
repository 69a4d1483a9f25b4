"""Records -> one comparison table. Pure functions.

A cell is the mean over seeds. Its differences are taken from baselines of the same backbone that
were trained and evaluated alike: scratch (with the best learning rate and layer decay that it was
given), training on labels, and the control with shuffled weights.
"""

from collections.abc import Mapping, Sequence

from pretrain.files.lineage import CONTROL, RANDOM, Stage
from transfer.results.cells import METHODS, Cell, Column, Row, Table
from transfer.results.formats import to_csv, to_html, to_latex, to_markdown
from transfer.results.groups import (
    Measured,
    Runs,
    backbone_name,
    columns_of,
    comparable,
    differing_keys,
    layer_decay_of,
    pretrained_of,
    rows_of,
)
from transfer.results.record import Environment, Result
from transfer.results.statistics import RULE, difference, summary

__all__ = [
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
    found = rows_of(records, columns)
    labels = _labels(found)
    alike = comparable(records)
    rows, notes = [], []
    for runs in found:
        cells = {column: _cell(runs, column, found, alike) for column in runs.cells}
        for column, cell in cells.items():
            notes += [f"{_named(runs)}, {column.title}: {remark}" for remark in cell.remarks]
        lineage = ", then ".join(map(str, runs.lineage.kind)) or "random weights"
        label = labels[id(runs)]
        said = labels_before(runs.lineage.kind)
        rows.append(
            Row(runs.method, runs.lineage.backbone, label, cells, lineage, runs.variant, said)
        )
    return Table(columns, rows, [*_notes(rows, columns, records), *dict.fromkeys(notes)])


def labels_before(stages: Sequence[Stage]) -> str:
    """Return the data whose labels a lineage had seen; "no" for none, "unknown" if a stage is.

    Shuffled and random weights learnt nothing by that.
    """
    seen = [stage.data or f"{stage.method}'s data" for stage in stages if stage.labels]
    learnt = [stage for stage in stages if stage.method not in (CONTROL, RANDOM)]
    unknown = ["unknown"] * any(stage.labels is None for stage in learnt)
    return ", ".join(dict.fromkeys([*seen, *unknown])) or "no"


def _named(runs: Runs) -> str:
    return f"{METHODS.get(runs.method, runs.method)} {runs.lineage.backbone}"


def _cell(runs: Runs, column: Column, rows: Sequence[Runs], alike: Mapping[str, str]) -> Cell:
    measured = runs.cells[column]
    values, notes = measured.figures[column.metric], measured.notes
    whole = summary(list(values.values()))
    differences, baselines = {}, {}
    for kind in BASELINES:
        chosen, more = _baseline(kind, runs, column, rows, alike)
        if chosen is not None:
            differences[kind] = difference(values, chosen.figures[column.metric])
            baselines[kind] = tuple(chosen.records)
            notes += more
    scratch = differences.get("scratch")
    delta = scratch.points if scratch else None
    return Cell(
        mean=whole.mean,
        sd=whole.sd,
        n=whole.n,
        delta=delta,
        protocol=measured.records[0].train_hash,
        differences=differences,
        notes=_said(measured.records),
        means={metric: measured.mean(metric) for metric in measured.figures},
        records=tuple(measured.records),
        baselines=baselines,
        remarks=tuple(notes),
    )


def _said(records: Sequence[Result]) -> tuple[str, ...]:
    """Return what a cell's records say of their runs, and of what they have in common."""
    seeds = dict(pretrained_of(record) for record in records)
    notes = [note for record in records for note in run_notes(record)]
    if len(seeds) > 1:
        told = sorted("+".join(str(s) for s in found if s is not None) for found in seeds.values())
        notes.append(
            f"mean over {len(seeds)} pretrainings, declared as seeds {', '.join(told)} of one "
            "recipe, so ± holds the spread of pretraining as well"
        )
    return tuple(dict.fromkeys(notes))


def _baseline(
    kind: str, runs: Runs, column: Column, rows: Sequence[Runs], alike: Mapping[str, str]
) -> tuple[Measured | None, list[str]]:
    """Return the baseline's best runs under comparable training, and a note on them."""
    ours = runs.cells[column].records[0]
    found = []
    for other in rows:
        if other is runs or not _is_baseline(kind, other, runs):
            continue
        theirs = other.cells.get(column)
        if theirs and alike[theirs.records[0].train_hash] == alike[ours.train_hash]:
            found.append(theirs)
    if not found:
        return None, []
    best = max(found, key=lambda measured: measured.mean(column.metric))
    if kind != "scratch":
        return best, []
    decays = [layer_decay_of(measured.records[0]) for measured in found]
    first = best.records[0]
    if first.train_hash != ours.train_hash:
        return best, [f"scratch has its own {_tuned(first, ours)}, the best of {len(found)}"]
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
    notes = [*record.notes, *_origin_notes("made", record.environment)]
    later = record.evaluated_in
    if later is not None:
        notes += _origin_notes("evaluated", later)
        if later.commit != record.environment.commit:
            notes.append(
                f"trained at commit {record.environment.commit[:10]}, evaluated at "
                f"{later.commit[:10]}"
            )
    return notes


def _origin_notes(done: str, environment: Environment) -> list[str]:
    if environment.dirty is None:
        return [f"{done} outside a git checkout"]
    return [f"{done} from a tree with uncommitted changes"] * environment.dirty


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
        if row.method not in ("scratch", RANDOM)  # these are what others are compared with
        and column in row.cells
        and row.cells[column].delta is None
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
