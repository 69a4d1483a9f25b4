"""The layers of an encoder that are looked at: one of each residual block, in the order they run.

An expansion is what an MLP or an inverted bottleneck shrinks again, after its activation and its
GRN: where ConvNeXt V2's paper finds features collapsed. A block without one, as
ResNet's, is looked at where it ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transfer.analysis.encoders import Analysed

Seen = Callable[[str, Tensor], None]  # name of the layer, maps (B, positions, C)


def blocks_of(encoder: nn.Module) -> dict[str, nn.Module]:
    """Return the residual blocks by name: in timm's networks, what has stochastic depth.

    Raises ValueError for a network without any.
    """
    found = {
        name: module
        for name, module in encoder.named_modules()
        if name and (hasattr(module, "drop_path") or hasattr(module, "drop_path1"))
    }
    if not found:
        raise ValueError(f"{type(encoder).__name__} has no residual blocks to look at")
    return found


def shrinking_layer(block: nn.Module) -> nn.Module | None:
    """Return the layer whose input is the block's expansion; None for a block without one."""
    inner = getattr(getattr(block, "mlp", None), "fc2", None)
    return inner if inner is not None else getattr(block, "conv_pwl", None)


@contextmanager
def observed(encoder: nn.Module, seen: Seen, *, expansions: bool) -> Iterator[None]:
    """Call `seen` with every block's expansion, or with its output, whenever the encoder runs."""
    prefix = int(getattr(encoder, "num_prefix_tokens", 0))
    handles = []
    for name, block in blocks_of(encoder).items():
        inner = shrinking_layer(block) if expansions else None
        if inner is None:
            handles.append(block.register_forward_hook(_after(name, seen, prefix)))
        else:
            handles.append(inner.register_forward_pre_hook(_before(name, seen, prefix)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _after(name: str, seen: Seen, prefix: int) -> Any:
    return lambda _module, _inputs, out: seen(name, positions_last(out, nn.Conv2d, prefix))


def _before(name: str, seen: Seen, prefix: int) -> Any:
    return lambda module, inputs: seen(name, positions_last(inputs[0], type(module), prefix))


def positions_last(x: Tensor, kind: type[nn.Module], prefix: int) -> Tensor:
    """Return maps (B, C, H, W), (B, H, W, C) for a Linear, or tokens (B, N, C) as (B, L, C).

    The `prefix` tokens that stand for no position are left out.
    """
    if x.ndim == 3:
        return x[:, prefix:]
    return x.flatten(1, 2) if issubclass(kind, nn.Linear) else x.flatten(2).transpose(1, 2)


@torch.no_grad()
def look(encoder: Analysed, images: Tensor, seen: Seen, *, expansions: bool) -> None:
    """Run an encoder on normalised images with `seen` at its layers."""
    with observed(encoder.features.encoder, seen, expansions=expansions):
        encoder.features(images)
