"""Batch normalisation over all processes, on GPUs and on CPUs, which torch's own refuses."""

from typing import Any, TypeVar

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)


class Sum(torch.autograd.Function):
    """The sum over the processes, and of its gradients."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        """Return the sum of `x` over all processes."""
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        """Return the sum of the gradient over all processes."""
        return Sum.forward(_ctx, grads[0])


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether any layer normalises with statistics of the batch."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())


class CPUSyncBatchNorm(_BatchNorm):
    """BatchNorm whose batch is that of all processes, whatever the share of each."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) over all processes; statistics have the weights' dtype."""
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return self._normalised(x.to(self.weight.dtype)).to(x.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        dims = [d for d in range(x.ndim) if d != 1]
        shape = (1, -1, *([1] * (x.ndim - 2)))
        count = Sum.apply(x.new_tensor(float(x.numel() // x.shape[1])))
        mean = Sum.apply(x.sum(dims)) / count
        centred = x - mean.view(shape)
        var = Sum.apply(centred.square().sum(dims)) / count
        self._track(mean.detach(), var.detach() * (count / (count - 1)))
        scale = self.weight * (var + self.eps).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"batch normalisation needs (N, C, ...), got {tuple(x.shape)}")


class CPUSyncBatchNormAct(CPUSyncBatchNorm):
    """timm's BatchNormAct2d with the batch of all processes."""

    act: nn.Module
    drop: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) over all processes, then apply dropout and activation."""
        return self.act(self.drop(super().forward(x)))


def synchronised(method: M, device: torch.device) -> M:
    """Return `method` with every BatchNorm synchronised over the processes, names unchanged."""
    if device.type == "cuda":
        return convert_sync_batchnorm(method)
    for parent in list(method.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _on_cpu(child))
    return method


def _on_cpu(norm: _BatchNorm) -> CPUSyncBatchNorm:
    if not norm.affine:
        raise ValueError(
            f"{type(norm).__name__} without weights cannot be synchronised over processes on the "
            "CPU: run one process there, or use GPUs"
        )
    with_act = isinstance(norm, BatchNormAct2d)
    kind = CPUSyncBatchNormAct if with_act else CPUSyncBatchNorm
    made = kind(norm.num_features, norm.eps, norm.momentum).to(norm.weight)
    if isinstance(norm, BatchNormAct2d):
        made.act, made.drop = norm.act, norm.drop
    made.load_state_dict(norm.state_dict())
    made.train(norm.training)
    return made


def images_per_statistic(module: nn.Module, device_batch: int, processes: int) -> int | None:
    """Return how many images make a BatchNorm's statistics in training; None if there is none.

    The least of all layers counts: synchronised ones see the images of all processes.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return None
    shared = all("Sync" in type(layer).__name__ for layer in layers)
    return device_batch * processes if shared else device_batch
