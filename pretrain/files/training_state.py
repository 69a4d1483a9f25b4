"""The training state: everything a run needs to resume exactly, whatever it trains.

One file of tensors and plain containers. It says what kind of run it belongs to and carries a
digest of its content, because torch does not check the checksums of its own archives: a flipped
byte would go unnoticed into the weights.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from pretrain.files.write import atomic_write

STATE_FORMAT = "mim-transfer-state/2"
MEND = "put back a copy of it, or remove it to begin the run again"


def write_state(path: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Write the state of a run of `kind` ("pretraining", ...) atomically, its tensors on the CPU.

    Raises TypeError for anything but tensors, plain values, and dicts, lists and tuples of them.
    """
    plain = {str(name): _plain(value, str(name)) for name, value in values.items()}
    content = {"format": STATE_FORMAT, "kind": kind, "sha256": digest(plain), "values": plain}
    atomic_write(Path(path), lambda temporary: torch.save(content, temporary))


def read_state(path: Path, kind: str) -> dict[str, Any]:
    """Return the values of the state in `path`, on the CPU.

    Raises FileNotFoundError, or ValueError for a file that is damaged, of another kind of run, or
    not a training state.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no training state at {path}")
    try:
        content = safe_read(path)
    except WeightsError as error:
        raise ValueError(
            f"{path}: not a readable training state ({error.reason}); {MEND}"
        ) from None
    found = content if isinstance(content, dict) else {}
    if found.get("format") != STATE_FORMAT:
        raise ValueError(
            f"{path}: not a training state of this suite (its format is {found.get('format')!r}, "
            f"expected {STATE_FORMAT!r})"
        )
    if found.get("kind") != kind:
        raise ValueError(f"{path}: the state of a {found.get('kind')} run, expected {kind}")
    values = found.get("values")
    if not isinstance(values, dict) or found.get("sha256") != digest(values):
        raise ValueError(
            f"{path}: the training state is damaged (its content is not what was written); {MEND}"
        )
    return values


def keep_former(path: Path, step: int, keep: int) -> None:
    """Keep the state in `path`, of `step`, under another name before a new one takes its place.

    `keep` states stay in all: "state.pt", the newest, and "state-STEP.pt". Nothing is removed
    where only one is kept.
    """
    if keep > 1 and path.is_file():
        former = path.with_stem(f"{path.stem}-{step}")
        atomic_write(former, lambda temporary: _same_file(path, temporary))
        older = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"), key=_step_of)
        for state in older[: len(older) - keep + 1]:
            state.unlink()


def _same_file(path: Path, name: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    name.unlink()
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)


def _step_of(path: Path) -> int:
    step = path.stem.rpartition("-")[2]
    return int(step) if step.isdigit() else -1


def digest(values: Any) -> str:
    """Return the sha256 of tensors in plain containers: names, order, shapes, types and bytes."""
    summed = hashlib.sha256()
    _feed(values, summed.update)
    return summed.hexdigest()


def _feed(value: Any, update: Callable[[Any], None]) -> None:
    if isinstance(value, Tensor):
        update(f"tensor {value.dtype} {tuple(value.shape)}".encode())
        if value.numel():
            update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        update(f"dict {len(value)}".encode())
        for key, item in value.items():
            _feed(key, update)
            _feed(item, update)
    elif isinstance(value, list | tuple):
        update(f"{type(value).__name__} {len(value)}".encode())
        for item in value:
            _feed(item, update)
    else:
        update(f"{type(value).__name__} {value!r};".encode())


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {_plain(k, where): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    raise TypeError(
        f"a training state holds tensors and plain values; {where} is a {type(value).__name__}"
    )
