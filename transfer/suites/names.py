"""Names of steps: a folder below --out, the same whenever the suite is read.

A name is made of what tells a step from others (config, weights, options, seed), not of its place
in the suite: adding a cell renames none.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from transfer.suites.suite import Cell, Control, FineTune, Pretrain, Released, Stage, Weights

MOST = 60  # characters of options; longer ones are cut and told apart by a digest


def stage_name(stage: Stage) -> str:
    """Return the name of the step that makes an encoder file."""
    if isinstance(stage, Pretrain):
        return f"pretrain/{_pretrain_label(stage)}"
    return f"finetune/{_finetune_label(stage)}"


def cell_name(kind: str, cell: Cell, seed: int) -> str:
    """Return the name of a cell's step for one seed; `kind` is the task's name."""
    label = cell.name or _labelled(weights_label(cell), cell.options)
    place = kind if cell.task == kind else f"{kind}/{Path(cell.task).stem}"
    return f"{place}/{_safe(label)}/seed{seed}"


def weights_label(cell: Cell) -> str:
    """Return what a cell starts from in one word; a file by its folder's name and its own."""
    random = isinstance(cell.weights, Control) and cell.weights.of is None
    if cell.weights is not None and not random:
        return _label(cell.weights)
    kind = "random" if random else "scratch"
    if cell.like is not None:
        return f"{kind}-{Path(cell.like.config).stem}"
    return f"{kind}-{cell.arch}" if cell.arch else kind


def _label(weights: Weights) -> str:
    if isinstance(weights, Pretrain):
        return _pretrain_label(weights)
    if isinstance(weights, FineTune):
        return _finetune_label(weights)
    if isinstance(weights, Released):
        return weights.name
    if isinstance(weights, Control) and weights.of is not None:
        return f"{weights.kind}-{_label(weights.of)}"
    assert isinstance(weights, Path)
    return "-".join(part for part in (weights.parent.name, weights.stem) if part)


def _finetune_label(stage: FineTune) -> str:
    if stage.name:
        return _safe(stage.name)
    start = "scratch" if stage.of is None else _label(stage.of)
    label = _labelled(f"{Path(stage.config).stem}-from-{start}", stage.options)
    return _safe(label if stage.seed == 0 else f"{label},seed={stage.seed}")


def _pretrain_label(pretrain: Pretrain) -> str:
    if pretrain.name:
        return _safe(pretrain.name)
    words = " ".join(pretrain.options)
    options = [re.sub(r"[ =]+", "=", word.strip(), count=1) for word in words.split("--") if word]
    label = _labelled(Path(pretrain.config).stem, options)
    return _safe(label if pretrain.seed is None else f"{label},seed={pretrain.seed}")


def _labelled(label: str, options: Sequence[str]) -> str:
    text = ",".join(options)
    if len(text) > MOST:
        text = f"{text[:MOST]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{label},{text}" if text else label


def _safe(text: str) -> str:
    without_brackets = re.sub(r"[()\[\]{}\"' ]+", "", text)
    return re.sub(r"[^\w.=,+~-]+", "-", without_brackets).strip("-.")
