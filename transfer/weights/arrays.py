"""A pickle of numpy arrays in plain containers, read without running what else it may say.

Detectron2's model zoo has the form {"model": {name: ndarray}, "__author__": ...}. Only numpy's own
three constructors of arrays are admitted, and each through a function here that checks what it is
given; everything else ends in UnpicklingError with the name of what the file asked for.
"""

import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np

_KINDS = "biufc"  # bool, integers, floats, complex: never object, void or text
_MAX_DIMENSIONS = 8


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
    """What protocol 2 writes bytes with: _codecs.encode(text, "latin1")."""
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


def load_arrays(file: IO[bytes]) -> Any:
    """The pickle's arrays in dicts, lists, tuples, strings and numbers.

    UnpicklingError names anything else that the file asks for.
    """
    value = _ArrayUnpickler(file, encoding="latin1").load()
    return _finished(value, depth=0)


def _finished(value: Any, depth: int) -> Any:
    """Replace every pending array by the array."""
    if depth > 20:
        raise pickle.UnpicklingError("its containers are nested too deeply")
    if isinstance(value, _Pending):
        if value.array is None:
            raise pickle.UnpicklingError("it holds an array without values")
        return value.array
    if isinstance(value, dict):
        return {key: _finished(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finished(item, depth + 1) for item in value)
    if value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
