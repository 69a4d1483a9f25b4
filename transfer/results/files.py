"""A table on disk: table.md, table.csv and table.tex, with the published figures beside it."""

import json
from functools import partial
from pathlib import Path

from pretrain.files.write import atomic_write
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
    texts = {"table.md": markdown, "table.csv": to_csv(table), "table.tex": to_latex(table)}
    for name, text in texts.items():
        atomic_write(out / name, partial(Path.write_text, data=text))
    return markdown, found
