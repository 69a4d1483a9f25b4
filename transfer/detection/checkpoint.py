"""Trained detectors on disk: atomic, and tensors only when read.

`model_final.pth` is a trained detector in Detectron2's layout, {"model": tensors}; a run's training
state holds one as well, and the record beside it says how it was trained. Detectron2's own
checkpointer, which unpickles, is not used.
"""

import json
from pathlib import Path
from typing import Any

import torch

from pretrain.files.training_state import STATE_FORMAT, read_state
from pretrain.files.write import atomic_write
from pretrain.run.folder import RECORD, STATE, RunFolder, differences
from transfer.detection.folder import PATHS
from transfer.results.record import Training, fields_of, read_result
from transfer.weights import safe_read

KIND = "detection"  # of the training state
FINAL_NAME = "model_final.pth"


def save(state: dict[str, Any], path: Path) -> None:
    """Write a dict of tensors and plain values in one step."""
    atomic_write(Path(path), lambda temporary: torch.save(state, temporary))


def load(path: Path) -> dict[str, Any]:
    """Return what `save` wrote, or a training state in its form, on the CPU.

    Raises FileNotFoundError, or ValueError for a broken or unsafe file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    state = safe_read(path)
    if isinstance(state, dict) and state.get("format") == STATE_FORMAT:
        values = read_state(path, KIND)
        trained = values["average"] or values["model"]
        state = {"model": trained, "step": values["step"], **values["trainee"]}
        state |= _recorded(path, state)
    model = state.get("model") if isinstance(state, dict) else None
    tensors = model.values() if isinstance(model, dict) else ()
    if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors):
        raise ValueError(
            f"{path}: not a checkpoint of this suite, which holds 'model', its tensors"
        )
    return state


def _recorded(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Return what a finished run's record says of its state: how trained, how evaluated.

    Nothing where the record is of other weights: those of another run or of an earlier step, or
    with BatchNorm statistics that were taken after the state (test.precise_bn).
    """
    run, protocol = RunFolder(path.parent, RECORD), protocol_of_run(state)
    if not run.finished or protocol is None or state["step"] < protocol["schedule"]["steps"]:
        return {}
    if differences(run.settings(), json.loads(state["identity"]), (PATHS,)):
        return {}
    if protocol["test"]["precise_bn"]:
        return {}
    record = read_result(path.parent)
    training = Training(**fields_of(record)).model_dump_json()
    return {"training": training, "eval_hash": record.eval_hash}


def newest(folder: Path) -> Path:
    """Return the trained detector of a run's folder, or its state while it is unfinished."""
    final, state = folder / FINAL_NAME, folder / STATE
    return state if state.is_file() and not final.is_file() else final


def protocol_of_run(trained: dict[str, Any]) -> dict[str, Any] | None:
    """Return the settings a checkpoint was trained with; None where it does not say."""
    return json.loads(trained["identity"])["protocol"] if "identity" in trained else None


def training_of(trained: dict[str, Any]) -> Training | None:
    """Return what a trained detector's record says of its training; None where it does not say."""
    text = trained.get("training")
    return None if text is None else Training.model_validate_json(text)


def load_model(model: torch.nn.Module, tensors: dict[str, torch.Tensor], source: Path) -> None:
    """Load a trained detector strictly; ValueError lists what does not fit."""
    own = model.state_dict()
    parts = {
        "missing": own.keys() - tensors.keys(),
        "left over": tensors.keys() - own.keys(),
        "of another shape": {
            n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape
        },
    }
    if any(parts.values()):
        told = "; ".join(
            f"{kind}: {_some(sorted(names))}" for kind, names in parts.items() if names
        )
        raise ValueError(f"{source} does not fit this config's detector ({told})")
    model.load_state_dict(tensors)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
