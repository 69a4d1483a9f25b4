"""The C kernels as PyTorch operators: opaque to torch.compile, with shapes it can reason about.

Rows are (cells, channels), contiguous, float32 or float64, on the CPU.
"""

# ruff: noqa: ARG001 - shape functions take what the operators take

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from pretrain.kernels.build import available, library

MAX_TAPS = 289  # as in convolutions.c


def on_cpu(x: Tensor) -> bool:
    """Return whether `x` is on the CPU and autocast is off."""
    return x.is_cpu and not torch.is_autocast_enabled("cpu")


def supports(x: Tensor) -> bool:
    """Return whether the kernels run here and take tensors like `x`."""
    return on_cpu(x) and x.dtype in (torch.float32, torch.float64) and available()


@custom_op("mim_transfer::window_entries", mutates_args=())
def window_entries(windows: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the entries of each window that are smaller than `rows`, as compressed sparse rows.

    windows (cells, taps) int64 -> first (cells + 1,), tap and row (cells * taps,) int32: cell o
    has the entries first[o] to first[o + 1]; what lies behind the last one is not filled.
    """
    cells, taps = windows.shape
    first, tap, row = _entries_like(windows)
    _run("window_entries", (cells, taps, rows), (windows.contiguous(), first, tap, row))
    return first, tap, row


@window_entries.register_fake
def _(windows: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return _entries_like(windows)


@custom_op("mim_transfer::depthwise", mutates_args=())
def depthwise(
    rows: Tensor, weight: Tensor, bias: Tensor | None, first: Tensor, tap: Tensor, row: Tensor
) -> Tensor:
    """out[o] = bias + sum over the entries of o of weight[tap] * rows[row]: (cells, C).

    rows (R, C); weight (taps, C); bias (C,); entries as `window_entries` gives them.
    """
    cells, channels = first.shape[0] - 1, rows.shape[1]
    out = rows.new_empty(cells, channels)
    tensors = (rows.contiguous(), weight.contiguous(), bias, first, tap, row, out)
    _run("depthwise", (cells, channels), tensors, threaded=True)
    return out


@depthwise.register_fake
def _(
    rows: Tensor, weight: Tensor, bias: Tensor | None, first: Tensor, tap: Tensor, row: Tensor
) -> Tensor:
    return rows.new_empty(first.shape[0] - 1, rows.shape[1])


@custom_op("mim_transfer::depthwise_weight_grad", mutates_args=())
def depthwise_weight_grad(
    rows: Tensor, grad: Tensor, first: Tensor, tap: Tensor, row: Tensor, taps: int
) -> Tensor:
    """Return the gradient of `depthwise` by its weight, (taps, C), for grad (cells, C)."""
    cells, channels = grad.shape
    out = rows.new_empty(taps, channels)
    tensors = (rows.contiguous(), grad.contiguous(), first, tap, row, out)
    _run("depthwise_weight", (cells, channels, taps), tensors, threaded=True)
    return out


@depthwise_weight_grad.register_fake
def _(rows: Tensor, grad: Tensor, first: Tensor, tap: Tensor, row: Tensor, taps: int) -> Tensor:
    return rows.new_empty(taps, grad.shape[1])


@custom_op("mim_transfer::conv3x3_weight_grad", mutates_args=())
def conv3x3_weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    """Return the weight's gradient of a 3 x 3 convolution, stride 1, padding 1: (C', C, 3, 3).

    x (B, H, W, C), grad (B, H, W, C'): channels last.
    """
    batch, height, width, channels = x.shape
    out = x.new_zeros(3, 3, channels, grad.shape[3])
    sizes = (batch, height, width, channels, grad.shape[3])
    _run("conv3x3_weight", sizes, (x.contiguous(), grad.contiguous(), out), threaded=True)
    return out.permute(3, 2, 0, 1)


@conv3x3_weight_grad.register_fake
def _(x: Tensor, grad: Tensor) -> Tensor:
    return x.new_empty(3, 3, x.shape[3], grad.shape[3]).permute(3, 2, 0, 1)


def _entries_like(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    cells, taps = windows.shape
    first, tap, row = (
        torch.empty(n, dtype=torch.int32) for n in (cells + 1, cells * taps, cells * taps)
    )
    return first, tap, row


def _run(
    name: str, sizes: tuple[int, ...], tensors: tuple[Tensor | None, ...], threaded: bool = False
) -> None:
    """Call the C function `name`, for floats in the number type of the first tensor."""
    kernels = library()
    if kernels is None:
        raise RuntimeError("the C kernels are not available: ask `supports` first")
    suffix = {torch.float32: "_f32", torch.float64: "_f64"}.get(_dtype(tensors), "")
    function = getattr(kernels, name + suffix)
    function.restype = None
    arguments: list[Any] = [ctypes.c_int64(size) for size in sizes]
    arguments += [ctypes.c_void_p(0 if t is None else t.data_ptr()) for t in tensors]
    function(*arguments, *([torch.get_num_threads()] if threaded else []))


def _dtype(tensors: tuple[Tensor | None, ...]) -> torch.dtype:
    return tensors[0].dtype if tensors[0] is not None else torch.float32
