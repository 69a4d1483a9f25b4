"""What the first process alone reads or does: its tensors and its errors are for all of them."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor


def from_first(fabric: Fabric, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `read` returns on the first process, on all of them.

    Nested dicts, lists and tuples of tensors and plain values; tensors are on the CPU. An error of
    `read` is raised on every process.
    """
    if fabric.world_size == 1:
        return read()
    values, error = None, None
    if fabric.is_global_zero:
        try:
            values = read()
        except (ValueError, OSError) as raised:
            error = raised
    tensors: list[Tensor] = []
    outline, error = fabric.broadcast((_outline(values, tensors), error))
    if error is not None:
        raise error
    return _fill(outline, iter(tensors), fabric)


def do_in_first(fabric: Fabric, action: Callable[[], object]) -> None:
    """Do `action` on the first process while the others wait; its error is raised on all of them.

    `action` must not talk to the other processes.
    """

    def done() -> dict[str, Any]:
        action()
        return {}

    from_first(fabric, done)


class _Place(tuple):
    """Where a tensor belongs: its shape and type."""


def _outline(value: Any, tensors: list[Tensor]) -> Any:
    """Return `value` with places for its tensors, which are appended to `tensors`."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Place((tuple(value.shape), value.dtype))
    if isinstance(value, dict):
        return {key: _outline(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_outline(item, tensors) for item in value)
    return value


def _fill(outline: Any, tensors: Any, fabric: Fabric) -> Any:
    """Return the outline with each place filled by the first process's tensor, one at a time."""
    if isinstance(outline, _Place):
        shape, dtype = outline
        own = next(tensors) if fabric.is_global_zero else torch.empty(shape, dtype=dtype)
        shared = own.to(fabric.device).contiguous()
        torch.distributed.broadcast(shared, 0)
        return own if fabric.is_global_zero else shared.cpu()
    if isinstance(outline, dict):
        return {key: _fill(item, tensors, fabric) for key, item in outline.items()}
    if isinstance(outline, list | tuple):
        return type(outline)(_fill(item, tensors, fabric) for item in outline)
    return outline
