"""Numpy arrays from a pickle, without executing anything else the pickle contains.

Detectron2's model zoo has the form {"model": {name: ndarray}, "__author__": ...}; torch archives
hold numpy numbers beside their tensors. Only numpy's own constructors of arrays are admitted, each
through a stand-in here that checks what it is given; everything else ends in UnpicklingError with
the name of what the file asked for.
"""

import pickle
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

_KINDS = "biufc"  # bool, integers, floats, complex: never object, void or text
_MAX_DIMENSIONS = 8
_MAX_NESTING = 50


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(f"it asks to import {module}.{name}")
        return admitted

    def persistent_load(self, _: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside the file")


class _Pending:
    """An array between numpy's _reconstruct and its state; numpy's own __setstate__ is not used."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        dtype = _plain_dtype(dtype)
        if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
            raise pickle.UnpicklingError("it holds an array of an impossible shape")
        if isinstance(data, str):
            data = data.encode("latin1")
        if not isinstance(data, bytes):
            raise pickle.UnpicklingError("it holds an array of Python objects")
        flat = np.frombuffer(data, dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C").copy()


class _Dtype:
    """A dtype by its code; the state that follows says only the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code[:1] not in _KINDS or not code[1:].isdigit():
            raise pickle.UnpicklingError(f"it holds an array of dtype {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order == ">":
            self.dtype = self.dtype.newbyteorder(">")


def _plain_dtype(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("it holds an array without a plain dtype")
    return dtype.dtype


def _reconstruct(*_: Any) -> _Pending:
    return _Pending()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds a scalar of Python objects")
    return np.frombuffer(data, _plain_dtype(dtype), count=1)[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> _Pending:
    pending = _Pending()
    pending.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return pending


def _encode(text: str, encoding: str) -> bytes:
    """Replace _codecs.encode(text, "latin1"), with which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it asks for _codecs.encode with another encoding")
    return text.encode("latin1")


def _ndarray(*_: Any) -> None:
    raise pickle.UnpicklingError("it asks to build numpy.ndarray itself")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}


for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[_core + ".multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[_core + ".multiarray", "scalar"] = _scalar
    _ADMITTED[_core + ".numeric", "_frombuffer"] = _from_buffer


class History:
    """Stands in for mmengine's HistoryBuffer, found in its checkpoints: its values, no methods."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}  # max_length, _log_history, _count_history

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("it holds a HistoryBuffer without values")
        names = ("max_length", "_log_history", "_count_history")
        self.values = {name: state[name] for name in names if name in state}


def _method_of_history(owner: Any, name: str) -> None:
    """Replace getattr where it names a statistic of HistoryBuffer; refuse anything else."""
    if owner is not History or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError("it asks to import builtins.getattr")


class ModuleShell:
    """Stands in for a pickled torch module: its attributes, none of its code."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("it holds a module without attributes")
        self.state = state

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Return parameters and buffers of the module and of those below it, by torch's names."""
        found: dict[str, Tensor] = {}
        for part in ("_parameters", "_buffers"):
            values = self.state.get(part) or {}
            found |= {f"{prefix}{n}": v for n, v in values.items() if isinstance(v, Tensor)}
        for name, child in (self.state.get("_modules") or {}).items():
            if isinstance(child, ModuleShell):
                found |= child.tensors(f"{prefix}{name}.")
        return found


TORCH_STAND_INS: list[Any] = [  # for torch.serialization.safe_globals: (stand-in, name in the file)
    Namespace,
    *((stand_in, f"{module}.{name}") for (module, name), stand_in in _ADMITTED.items()),
    _Pending,
    (History, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_method_of_history, "builtins.getattr"),
]


def load_arrays(file: IO[bytes]) -> Any:
    """Read a pickle of arrays in dicts, lists, tuples, strings and numbers.

    Raises UnpicklingError, with its name, for anything else that the file asks for.
    """
    return plain_values(_ArrayUnpickler(file, encoding="latin1").load())


def plain_values(value: Any) -> Any:
    """Return the value with arrays instead of stand-ins.

    Raises UnpicklingError if it holds anything but plain containers, arrays and tensors.
    """
    return _plain(value, {}, depth=0)


_LEAVES = (str, bytes, bool, int, float, complex, np.generic, torch.Size, torch.dtype, torch.device)


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Convert a value, every container once however often it is referred to."""
    if depth > _MAX_NESTING:
        raise pickle.UnpicklingError("its containers are nested too deeply")
    if id(value) not in done:
        done[id(value)] = None  # a container in itself ends here
        done[id(value)] = _plain_once(value, done, depth + 1)
    return done[id(value)]


def _plain_once(value: Any, done: dict[int, Any], depth: int) -> Any:
    if isinstance(value, _Pending):
        if value.array is None:
            raise pickle.UnpicklingError("it holds an array without values")
        return value.array
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, History):
        value.values = _plain(value.values, done, depth)
        return value
    if isinstance(value, ModuleShell):
        value.state = _plain(value.state, done, depth)
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item, done, depth) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_plain(item, done, depth) for item in value)
    if value is None or isinstance(value, (*_LEAVES, _Dtype)):
        return value
    if isinstance(value, Tensor):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
