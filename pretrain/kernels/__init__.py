"""Small C kernels for convolutions on the CPU, compiled at first use where a C compiler is.

    build.py          compile once into a cache folder, load; None where that is not possible
    ops.py            the kernels as PyTorch operators
    convolution.py    3x3 convolutions and norms with a backward pass of their own
    convolutions.c, template.h

Nothing depends on them but speed: every caller has a way in plain PyTorch. They are off where
MIM_TRANSFER_KERNELS=0.
"""

from pretrain.kernels.build import available
from pretrain.kernels.ops import (
    conv3x3_weight_grad,
    depthwise,
    depthwise_weight_grad,
    on_cpu,
    supports,
    window_entries,
)

__all__ = [
    "available",
    "conv3x3_weight_grad",
    "depthwise",
    "depthwise_weight_grad",
    "on_cpu",
    "supports",
    "window_entries",
]
