"""What a GPU would be asked to do, without one: fake CUDA tensors have shapes and no numbers.

A forward pass runs as it would under CUDA's autocast. It fails where tensors of two devices meet,
where the host reads a number from the device or a shape depends on one, and where a copy makes the
host wait. The autograd engine needs a real device: backward passes are called by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)


class HostWaitError(AssertionError):
    """A copy between host and device for which the host waits."""


class NoWaiting(TorchDispatchMode):
    """Refuses copies to the host, and copies to the device that are not `non_blocking`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        source = args[0] if args else None
        moved = isinstance(source, Tensor) and isinstance(out, Tensor) and source.numel() > 1
        if moved and source.device != out.device and not kwargs.get("non_blocking"):
            raise HostWaitError(f"{func}: {source.device} to {out.device}, {tuple(source.shape)}")
        return out


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch, autocast: bool = True) -> Iterator[None]:
    """Let tensors made inside be fake ones, with CUDA and its autocast to bfloat16 at hand."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    with (
        FakeTensorMode(allow_non_fake_inputs=False),
        torch.autocast("cuda", torch.bfloat16, enabled=autocast),
        NoWaiting(),
    ):
        yield


def put_on_gpu(module: nn.Module) -> None:
    """Replace parameters and buffers by fake ones on the GPU; call it within `fake_gpu`."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=CUDA)
                part._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)


class Context:
    """Stands for autograd's context of a torch.autograd.Function."""

    def __init__(self, inputs: int) -> None:
        self.needs_input_grad = (True,) * inputs
        self.saved_tensors: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


def gradients(function: Any, *inputs: Any) -> tuple[Tensor, list[Tensor | None]]:
    """Run both passes of an autograd Function by hand: its output and the inputs' gradients."""
    context = Context(len(inputs))
    out = function.forward(context, *inputs)
    return out, list(function.backward(context, torch.empty_like(out)))
