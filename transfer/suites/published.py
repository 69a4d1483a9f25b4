"""The published table of a suite: every row of it, run or not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pretrain.config import load_recipe
from transfer.results.published import Figure, Line, differences, is_comparable
from transfer.results.record import Result
from transfer.suites.commands import config_of, config_path, task_of
from transfer.suites.names import cell_name
from transfer.suites.suite import ROOT, Cell, FineTune, Pretrain, Released, Weights
from transfer.weights.releases import releases

PUBLISHED = ROOT / "configs" / "published.json"


@dataclass(frozen=True)
class Expected:
    """What a cell will stand for in the tables, as far as it is known before it has run."""

    task: str
    config: str
    arch: str
    method: str


def figures_of(sources: Sequence[str], path: Path = PUBLISHED) -> list[Figure]:
    """Return the figures of the sources, their footnoted parts included.

    Raises ValueError for a source that has none.
    """
    published = json.loads(path.read_text())
    found = []
    for source in sources:
        mine = [
            f for f in published if f["source"] == source or f["source"].startswith(f"{source} ")
        ]
        if not mine:
            raise ValueError(f"{path.name} has no figure of {source!r}")
        found += mine
    return found


def lines_of(
    figures: Iterable[Figure], cells: Iterable[Cell], records: Sequence[Result]
) -> list[Line]:
    """Return every figure with the mean of the records that it belongs to, or why there is none."""
    expected = [(expectation(cell), _place(cell)) for cell in cells]
    return [_line(figure, expected, records) for figure in figures]


def _place(cell: Cell) -> str:
    """Return the name of a cell's steps without the seed."""
    return cell_name(task_of(cell).name, cell, seed=0).rpartition("/")[0]


def _line(
    figure: Figure, expected: Sequence[tuple[Expected | None, str]], records: Sequence[Result]
) -> Line:
    match = figure.get("match")
    if match is None:
        return Line(
            figure, None, f"no run can stand here: {figure.get('unmatched', 'not matched')}"
        )
    ours = [r for r in records if _belongs(r, match)]
    if ours:
        value = fmean(record.metrics[match["metric"]] for record in ours)
        differing = sorted({text for record in ours for text in differences(record, match)})
        return Line(figure, value, f"differs in {', '.join(differing)}" if differing else "")
    method = "+".join(stage["method"] for stage in match["stages"])
    wanted = Expected(match["task"], match.get("config", ""), match["arch"], method)
    cells = [place for made, place in expected if made == wanted]
    if not cells:
        return Line(figure, None, "the suite has no cell for it")
    if match["evaluation"] not in ("single-scale", ""):
        return Line(figure, None, f"not run ({cells[0]}, evaluated {match['evaluation']})")
    return Line(figure, None, f"not run ({cells[0]})")


def _belongs(record: Result, match: Mapping[str, Any]) -> bool:
    method = "+".join(stage["method"] for stage in match["stages"])
    own = (record.task, record.backbone.partition(".")[0], record.method)
    same = own == (match["task"], match["arch"], method) and match["metric"] in record.metrics
    of_config = record.config is not None and record.config.name == match.get("config")
    return same and of_config and is_comparable(record, match)


def expectation(cell: Cell) -> Expected | None:
    """Return what a cell will stand for; None where only its weights file tells."""
    task, config = task_of(cell), config_of(cell)
    known = _origin(cell)
    if known is None:
        return None
    return Expected(task.name, config.stem, *known)


def _origin(cell: Cell) -> tuple[str, str] | None:
    weights = cell.weights
    if weights is None:
        return (cell.arch, "scratch") if cell.arch is not None else None
    return _made(weights)


def _made(weights: Weights) -> tuple[str, str] | None:
    """Return architecture and method of weights; None where only the file tells."""
    if isinstance(weights, Released) and weights.name in releases():
        release = releases()[weights.name]
        return release.arch, release.method
    if isinstance(weights, Pretrain):
        recipe = load_recipe(config_path(weights.config))
        return recipe.arch, recipe.method.name
    if isinstance(weights, FineTune) and weights.of is not None:
        before = _made(weights.of)
        return (before[0], f"{before[1]}+supervised") if before else None
    return None
