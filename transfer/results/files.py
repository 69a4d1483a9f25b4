"""A table on disk: table.md, table.csv and table.tex, with the published figures beside it."""

import json
from pathlib import Path

from transfer.results.cells import Table
from transfer.results.formats import to_csv, to_latex, to_markdown
from transfer.results.published import Match, beside_published, matches


def write_tables(table: Table, out: Path, published: Path) -> tuple[str, list[Match]]:
    """Write the table in each format; return the Markdown, and the published figures beside it.

    Raises ValueError or OSError if a file cannot be read or written.
    """
    found = matches(table, json.loads(Path(published).read_text()))
    markdown = to_markdown(table)
    if found:
        markdown += f"\n## Beside published figures\n\n{beside_published(found)}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(markdown)
    (out / "table.csv").write_text(to_csv(table))
    (out / "table.tex").write_text(to_latex(table))
    return markdown, found
