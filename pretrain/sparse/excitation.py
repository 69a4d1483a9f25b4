"""Squeeze-excitation over the visible positions: an image's mean is that of what is visible of it.

The definition of SparK's author: the linear layers stay as they are, global pooling takes the mean
of the positions that are not masked (github.com/keyu-tian/SparK/issues/54).
"""

from typing import Any

from timm.layers import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

EXCITATIONS = (SqueezeExcite, SEModule, EffectiveSEModule)


def is_excitation(module: nn.Module) -> bool:
    """Return whether `module` is squeeze-excitation by global mean pooling alone."""
    plain = type(module) in EXCITATIONS
    return plain and not getattr(module, "add_maxpool", False)


def inside_excitations(root: nn.Module) -> set[int]:
    """Return the ids of all layers within squeeze-excitations: they see means, not positions."""
    return {
        id(part)
        for module in root.modules()
        if is_excitation(module)
        for part in module.modules()
        if part is not module
    }


def gates(module: Any, means: Tensor) -> Tensor:
    """Return the factor of each channel (B, C, 1, 1) from the means over an image (B, C, 1, 1)."""
    if isinstance(module, SqueezeExcite):
        hidden = module.act1(module.conv_reduce(means))
        return module.gate(module.conv_expand(hidden))
    if isinstance(module, SEModule):
        hidden = module.act(module.bn(module.fc1(means)))
        return module.gate(module.fc2(hidden))
    return module.gate(module.fc(means))
