"""The training state: everything a run needs to resume exactly."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pretrain.files.read import load_failure
from pretrain.files.write import atomic_write

STATE_FORMAT = "mim-transfer-state/1"


@dataclass(frozen=True)
class TrainingState:
    """Everything a run needs to go on as if it had not stopped.

    Data order, crops, masks and stochastic depth are functions of (seed, step), so no generator's
    state is among it.
    """

    step: int  # optimizer steps done
    method: dict[str, Any]  # state_dict
    optimizer: dict[str, Any]  # state_dict
    data: str  # digest of the images' names: another order would be another run
    losses: list[float]  # of the steps since the last line of the log
    gradient_norms: list[float]  # likewise
    log_bytes: int  # length of log.jsonl at this step


def write_state(path: Path, state: TrainingState) -> None:
    """Write the training state atomically."""
    values = {"format": STATE_FORMAT, **{f.name: getattr(state, f.name) for f in fields(state)}}
    atomic_write(path, lambda p: torch.save(values, p))


def read_state(path: Path) -> TrainingState:
    """The training state in `path`, on the CPU; ValueError if it is none or damaged."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no training state at {path}")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends in errors of many kinds
        reason = load_failure(error)
        raise ValueError(f"{path}: not a readable training state ({reason})") from None
    if not isinstance(values, dict) or values.pop("format", None) != STATE_FORMAT:
        raise ValueError(f"{path}: not a training state of this suite ({STATE_FORMAT})")
    return TrainingState(**values)
