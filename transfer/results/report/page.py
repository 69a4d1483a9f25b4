"""Records -> table.md, table.csv, table.tex and report.html, a page that needs no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pretrain import __version__
from pretrain.files.write import atomic_write
from pretrain.run import folder
from transfer.results.cells import METHODS, Row, Table
from transfer.results.files import write_tables
from transfer.results.formats import differences_of
from transfer.results.published import Line, Match, source_of
from transfer.results.report import costs, curves, figures, gains
from transfer.results.report.runs import (
    Run,
    data_uri,
    name_of,
    pretrainings,
    read_run,
    rows_by_run,
)
from transfer.results.report.scaling import scaling_sections
from transfer.results.table import build_table
from transfer.tasks import TASKS

GREY = 3  # --series-3 of style.css
WIDTH_PX, NARROW_PX, FEW_ROWS = 1400, 700, 16  # of pictures; narrow ones where rows are many
TITLE = "Transfer of masked pretraining"


@dataclass(frozen=True)
class Picture:
    """A sheet with its name and what it shows; `source` is a data URI."""

    name: str
    text: str
    source: str


def write_report(
    runs: Sequence[Path],
    out: Path,
    published: Path,
    title: str = TITLE,
    lines: Sequence[Line] = (),
) -> str:
    """Write table.md, .csv, .tex and report.html for the records at `runs`; return the Markdown.

    The page shows the published table of a suite as well, whose `lines` are given.
    Raises ValueError or OSError if a record cannot be read or a file cannot be written.
    """
    found = [read_run(run) for run in runs]
    made = build_table([run.record for run in found])
    markdown, beside = write_tables(made, out, published)
    page = render(found, made, beside, title, lines)
    atomic_write(out / "report.html", lambda path: path.write_text(page))
    return markdown


def render(
    runs: Sequence[Run],
    made: Table,
    beside: Sequence[Match] = (),
    title: str = TITLE,
    lines: Sequence[Line] = (),
) -> str:
    """Return the page. Every text from a record is escaped by the template."""
    environment = Environment(
        loader=PackageLoader("transfer.results.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = figures.signed
    environment.filters["breakable"] = breakable
    environment.filters["hours"] = costs.hours_text
    series = series_of(made)
    by_row = rows_by_run(runs, made)
    differences, header = differences_of(made)
    return environment.get_template("template.html").render(
        title=title,
        version=__version__,
        style=Markup(_asset("style.css")),
        script=Markup(_asset("page.js")),
        table=made,
        methods=METHODS,
        series=series,
        summary=summary(runs, made),
        days=costs.days(runs),
        commits=costs.commits(runs),
        totals=costs.totals(runs),
        differences=differences,
        differences_header=header,
        beside=beside,
        source_of=source_of,
        lines=lines,
        gains=gains.gains(made),
        classes=gains.class_gains(made),
        scaling=scaling_sections(made, series),
        losses=curves.loss_figures(runs, series),
        metrics=curves.metric_figures(runs, series),
        pretraining=curves.pretraining_figures(runs, series),
        legend_of=figures.legend_of,
        predictions=predictions(by_row),
        reconstructions=reconstructions(runs),
        costs=costs.costs(runs),
        repeats=[(name_of(row), row, costs.repeats(mine)) for row, mine in by_row],
    )


def series_of(made: Table) -> Mapping[str, int]:
    """Return the colour of each method: grey for scratch, the others in their order."""
    methods = sorted({row.method for row in made.rows} - {"scratch"})
    colors = [number for number in range(figures.SERIES) if number != GREY]
    numbered = {name: colors[i % len(colors)] for i, name in enumerate(methods)}
    return {"scratch": GREY, **numbered}


def breakable(text: str) -> Markup:
    """Return text that may break after an underscore."""
    return escape(text).replace("_", Markup("_<wbr>"))


def summary(runs: Sequence[Run], made: Table) -> str:
    """Say in one sentence what the table holds and how far it may be trusted."""
    seeds = {cell.n for row in made.rows for cell in row.cells.values()}
    count = f"{len(runs)} records, {len(made.rows)} rows."
    if seeds == {1}:
        return f"{count} One seed each: no difference here is more than a hint."
    return f"{count} Cells are means over seeds, ± one standard deviation; n = {_span(seeds)}."


def _span(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


def predictions(by_row: Sequence[tuple[Row, Sequence[Run]]]) -> dict[str, list[Picture]]:
    """Return by task and data the predictions of each row's first run that has a picture."""
    found: dict[str, list[Picture]] = {}
    width = WIDTH_PX if len(by_row) <= FEW_ROWS else NARROW_PX
    for row, runs in by_row:
        drawn: set[str] = set()
        for run in runs:
            place = f"{run.record.task} on {run.record.dataset.name}"
            source = "" if place in drawn else run.predictions(width)
            if source:
                drawn.add(place)
                columns = TASKS[run.record.task].columns
                told = [f"{m} {v:.1f}" for m, v in run.record.metrics.items() if m in columns]
                text = f"{', '.join(told)}, seed {run.record.seed}"
                found.setdefault(place, []).append(Picture(name_of(row), text, source))
    return dict(sorted(found.items()))


def reconstructions(runs: Sequence[Run]) -> list[Picture]:
    """Return the sheets that pretrainings drew beside their weights."""
    found = []
    for run in pretrainings(runs):
        source = data_uri(run.pretraining / folder.PICTURE, WIDTH_PX) if run.pretraining else ""
        if source:
            lineage = ", then ".join(map(str, run.record.stages))
            found.append(Picture(run.label, lineage, source))
    return found
