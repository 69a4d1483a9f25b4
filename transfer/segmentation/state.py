"""The files that hold a segmentation run's weights: state.pt, to go on, and best.pt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.files.training_state import read_state, write_state
from pretrain.run.stop import NotFiniteError

KIND = "segmentation"
BEST = "best.pt"  # the state with the highest mIoU of the evaluations during training


def save(path: Path, values: Mapping[str, Any]) -> None:
    """Write a state in one step; NotFiniteError for weights that are NaN or infinite."""
    for weights in (values["model"], values.get("average") or {}):
        require_finite(weights)
    write_state(path, KIND, values)


def load(path: Path) -> dict[str, Any]:
    """Return what `save` wrote, on the CPU, where AdamW's step counts belong.

    FileNotFoundError, or ValueError for a file that is damaged or of another kind.
    """
    return read_state(path, KIND)


def evaluated_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that are evaluated: the average where one is kept."""
    return state["model"] if state["average"] is None else state["average"]


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise NotFiniteError with the name of the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NotFiniteError(f"{name} holds values that are not finite")
