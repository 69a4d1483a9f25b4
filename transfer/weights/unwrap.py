"""From what a file holds to its state dict: the containers taken off, the rest noted."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.files.read import WeightsError
from pretrain.files.training_state import STATE_FORMAT
from transfer.weights.sources.base import Raw

CONTAINERS = (
    "model",
    "module",
    "state_dict",
    "teacher",
    "model_state",
    "model_state_dict",
    "net",
    "model_ema",
    "student",
)
WRAPPERS = ("module.", "_orig_mod.", "model.")  # prefixes that data parallelism or compiling add
NOTES = ("__author__", "meta", "arch", "epoch", "is_pretrain", "input_size")
_DEPTH = 5


def unwrap(content: Any, file: str, part: str | None = None) -> Raw:
    """Return the raw tensors in the first known container, or of the entry `part`.

    Raises WeightsError if there is no state dict.
    """
    path: list[str] = []
    beside: list[str] = []
    if part is not None:
        content = {"state_dict": content[part]}
    notes: dict[str, Any] = {}
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            break
        arrays = {k: v for k, v in content.items() if isinstance(v, Tensor | np.ndarray)}
        if arrays:
            others = [str(k) for k in content if k not in arrays]
            notes |= {k: content[k] for k in NOTES if k in content and k not in arrays}
            return Raw(
                file=file,
                tensors=_strip({str(k): _tensor(k, v, file) for k, v in arrays.items()}),
                containers=tuple(path),
                beside=tuple(beside),
                notes=notes,
                not_tensors=tuple(others),
            )
        inner = [k for k in CONTAINERS if isinstance(content.get(k), Mapping)]
        if not inner:
            break
        notes |= {k: content[k] for k in NOTES if k in content}
        beside += [str(k) for k in content if k != inner[0]]
        path.append(inner[0])
        content = content[inner[0]]
    if isinstance(content, Mapping) and content.get("format") == STATE_FORMAT:
        raise WeightsError(
            f"{file}: a training state, which its own run goes on from with --resume; give an "
            "encoder file, as pretraining and fine-tuning write it: encoder.safetensors"
        )
    keys = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
    raise WeightsError(
        f"{file}: no state dict in it (looked under {', '.join(CONTAINERS)}; found {keys}); "
        "save the encoder's state dict alone"
    )


def _tensor(name: Any, value: Any, file: str) -> Tensor:
    if isinstance(value, Tensor):
        value = value.detach()
    else:
        if value.dtype.kind not in "biuf":
            raise WeightsError(f"{file}: {name} is an array of {value.dtype}, not of numbers")
        native = value.astype(value.dtype.newbyteorder("="), copy=True)
        value = torch.from_numpy(np.atleast_1d(native)).reshape(native.shape)
    if value.layout != torch.strided or value.is_quantized:
        raise WeightsError(f"{file}: {name} is sparse or quantized; save it as a plain tensor")
    return value


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove a prefix that every name has."""
    for wrapper in WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            return _strip({name.removeprefix(wrapper): t for name, t in tensors.items()})
    return tensors


def plain(value: Namespace | Any) -> Any:
    """Return a namespace (argparse's) as a dict, any other value as it is."""
    return vars(value) if isinstance(value, Namespace) else value
