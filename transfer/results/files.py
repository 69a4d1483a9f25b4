"""A table on disk: table.md, table.csv and table.tex, with the published figures beside it."""

import json
from functools import partial
from pathlib import Path

from pretrain.files.write import atomic_write
from transfer.results.cells import Table
from transfer.results.formats import grid_to_markdown, to_csv, to_latex, to_markdown
from transfer.results.published import Match, beside_published, matches

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"  # in a page that shows a table


def write_tables(table: Table, out: Path, published: Path) -> tuple[str, list[Match]]:
    """Write the table in each format; return the Markdown, and the published figures beside it.

    Raises ValueError or OSError if a file cannot be read or written.
    """
    try:
        figures = json.loads(published.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"the published figures {published} cannot be read: {error}") from error
    found = matches(table, figures)
    markdown = to_markdown(table)
    if found:
        markdown += f"\n## Beside published figures\n\n{beside_published(found)}\n"
    texts = {"table.md": markdown, "table.csv": to_csv(table), "table.tex": to_latex(table)}
    for name, text in texts.items():
        atomic_write(out / name, partial(Path.write_text, data=text))
    return markdown, found


def put_into(page: Path, table: Table) -> None:
    """Write the table, without its notes, between the marks of a Markdown page.

    Raises ValueError as `around_marks` does.
    """
    before, after = around_marks(page)
    content = f"{before}{BEGIN}\n\n{grid_to_markdown(table)}\n{END}{after}"
    atomic_write(page, lambda to: to.write_text(content))


def around_marks(page: Path) -> tuple[str, str]:
    """Return what stands before and after the marks of a Markdown page.

    Raises ValueError if there is no page, or it has not both marks, each once and in their order.
    """
    if not page.is_file():
        raise ValueError(f"there is no page {page} to put the table into")
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in before + after:
        raise ValueError(f"{page} needs a line {BEGIN} and, after it, a line {END}, each once")
    return before, after
