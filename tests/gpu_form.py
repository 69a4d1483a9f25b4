"""What a GPU would be asked to do, on a machine without one.

    fake_gpu      tensors with shapes and no numbers (torch's FakeTensor): a number that the host
                  reads, a shape that depends on one and a copy that the host waits for are errors
    stand_in_gpu  tensors that say CUDA and are computed on the CPU: for detectors, which read
                  numbers all the time; tensors of two devices in one operation are errors

Both run forward passes under CUDA's own autocast. The autograd engine needs a real device, so
backward passes are called by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# these take tensors of two devices, a CPU's indices of a CUDA tensor among them
ACROSS = ("copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_")


class HostWaitError(AssertionError):
    """A copy between host and device for which the host waits."""


class MixedDevicesError(AssertionError):
    """Tensors of two devices in one operation."""


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
    _pretend_cuda(monkeypatch)
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


@contextmanager
def stand_in_gpu(monkeypatch: pytest.MonkeyPatch, autocast: bool = True) -> Iterator[list[str]]:
    """Let `.to("cuda")` give stand-ins; yields a list of the operations that read numbers.

    Move modules with `module.to(CUDA)`.
    """
    _pretend_cuda(monkeypatch)
    reads: list[str] = []
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            torch.autocast("cuda", torch.bfloat16, enabled=autocast),
            torch.backends.cudnn.flags(enabled=False),  # the CPU has no kernels of these names,
            sdpa_kernel(SDPBackend.MATH),  # nor of CUDA's attention
            StandInMode(reads),
        ):
            yield reads
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class StandIn(Tensor):
    """A tensor that says it is on CUDA; its `numbers` are on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "StandIn":
        with _disable_current_modes():
            shape = torch.empty_strided(
                numbers.shape, numbers.stride(), dtype=numbers.dtype, device="meta"
            )
        made = Tensor._make_subclass(
            cls, shape, False, dispatch_device=True, device_for_backend_keys=CUDA
        )
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, [])


class StandInMode(TorchDispatchMode):
    """Computes on the CPU what stand-ins take part in, and makes new ones where CUDA is asked."""

    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.reads)


def _run(func: Any, args: Any, kwargs: dict[str, Any], reads: list[str]) -> Any:
    if func is torch.ops.prim.device.default:
        return CUDA
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    on_gpu = any(isinstance(x, StandIn) for x in tensors)
    others = [x for x in tensors if not isinstance(x, StandIn) and x.ndim > 0]
    if on_gpu and others and name not in ACROSS:
        raise MixedDevicesError(f"{func}: {[tuple(x.shape) for x in others]} are on the CPU")
    if on_gpu and name in ("_local_scalar_dense", "nonzero", "equal"):
        reads.append(name)
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": CPU}
    numbers = lambda x: x.numbers if isinstance(x, StandIn) else x  # noqa: E731
    out = func(*tree_map(numbers, args), **tree_map(numbers, kwargs))
    if not on_gpu:
        return out
    wrapped = tree_map(lambda x: StandIn(x) if isinstance(x, Tensor) else x, out)
    if name == "_to_copy":
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


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


def _pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    monkeypatch.setattr("torch.cuda._lazy_init", lambda: None)
    torch._C._ensureCUDADeviceGuardSet()
