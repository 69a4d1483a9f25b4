"""What an optimizer step needs beside the optimizer: the gradients' norm, the fused form."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FUSED = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)  # those that have one kernel


def fuse_on_gpu(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer update all parameters of a group in one kernel where they lie on a GPU.

    The formula is the same. On a CPU nothing changes, so that results stay equal bit for bit. Call
    it before the first step: it decides where the step counts lie. The flag is set in the groups,
    not given to the constructor, because Fabric refuses to unscale the gradients of an optimizer
    that was constructed as fused.
    """
    if type(optimizer) not in FUSED:
        return
    for group in optimizer.param_groups:
        if all(p.device.type == "cuda" for p in group["params"]):
            group.update(fused=True, foreach=False)


def total_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the 2-norm of all gradients together, a scalar on their device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else parameters[0].new_zeros(())
