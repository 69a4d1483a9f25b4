"""The table of a suite: what its records say, what is missing, and the published rows."""

import time
from collections.abc import Sequence

from pretrain.files.write import atomic_write
from transfer.results.published import Line, lines_to_markdown
from transfer.results.record import Result, read_result
from transfer.suites.board import Board
from transfer.suites.published import PUBLISHED, figures_of, lines_of

LEASE = "the table"
WAIT_S = 60  # for another launcher that draws it


def write_table(board: Board, published: Sequence[str]) -> str:
    """Write table.md and, if there are records, the report beside it; return the Markdown.

    Of several launchers one draws at a time, and the last one draws everything that is there.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        lease = board.try_lease(LEASE)
        if lease is not None:
            with lease:
                return _write(board, published)
        if time.monotonic() > deadline:
            return (board.out / "table.md").read_text()
        time.sleep(0.5)


def _write(board: Board, published: Sequence[str]) -> str:
    from transfer.results.report import write_report

    found = board.records()
    paths = [path for paths in found.values() for path in paths]
    lines = _lines(board, published, [read_result(path) for path in paths] if published else [])
    parts = ["No records yet."]
    if paths:
        parts = [write_report(paths, board.out, PUBLISHED, lines=lines).rstrip()]
    left = [f"- {name}: {board.state(name).kind}" for name, paths in found.items() if not paths]
    if left:
        parts.append("## Not in this table\n\n" + "\n".join(left))
    if lines:
        parts.append("## The published table\n\n" + lines_to_markdown(lines))
    text = "\n\n".join(parts) + "\n"
    atomic_write(board.out / "table.md", lambda path: path.write_text(text))
    return text


def published_rows(board: Board, published: Sequence[str]) -> str:
    """Return the published table with nothing run, "" for a suite that stands beside none."""
    return lines_to_markdown(_lines(board, published, [])) if published else ""


def _lines(board: Board, published: Sequence[str], records: Sequence[Result]) -> list[Line]:
    cells = (step.cell for step in board.steps.values() if step.cell is not None)
    return lines_of(figures_of(published), cells, records)
