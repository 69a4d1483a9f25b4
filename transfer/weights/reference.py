"""ConvNeXt computed straight from official names, dense or Minkowski: a second way, for proofs.

It shares nothing with the conversion: no name is changed and no kernel reshaped. A Minkowski kernel
is applied point by point, its window counted column by column (ConvNeXt-V2
utils.remap_checkpoint_keys).
"""

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
_PREFIX = re.compile(r"^(module\.)?(sparse_encoder\.sp_cnn\.|encoder\.|backbone\.)")


def is_official_convnext(tensors: State) -> bool:
    """Return whether the names are those of the official ConvNeXt code."""
    return any("downsample_layers.0.0." in name for name in tensors)


@torch.no_grad()
def convnext_maps(tensors: State, images: Tensor) -> list[Tensor]:
    """Compute the four stages' maps of the network in `tensors` from (B, 3, H, W)."""
    state = {_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}
    x, maps = images, []
    for stage in range(4):
        x = _downsample(state, stage, x)
        blocks = {int(n.split(".")[2]) for n in state if n.startswith(f"stages.{stage}.")}
        for block in sorted(blocks):
            x = _block(state, f"stages.{stage}.{block}.", x)
        maps.append(x)
    return maps


def _get(state: State, name: str) -> Tensor:
    """Return a tensor by its dense name, also if `ln` or `linear` is in the path."""
    stem, _, leaf = name.rpartition(".")
    names = (name, f"{stem}.ln.{leaf}", f"{stem}.linear.{leaf}")
    return next(state[n] for n in names if n in state)


def _downsample(state: State, stage: int, x: Tensor) -> Tensor:
    first = f"downsample_layers.{stage}.0."
    second = f"downsample_layers.{stage}.1."
    if stage == 0:
        weight = state[first + "weight"]
        return _norm(state, second, F.conv2d(x, weight, state[first + "bias"], weight.shape[-1]))
    return _convolve(state, second, _norm(state, first, x), stride=2)


def _block(state: State, name: str, x: Tensor) -> Tensor:
    y = _convolve(state, name + "dwconv.", x, stride=1)
    y = _norm(state, name + "norm.", y).permute(0, 2, 3, 1)
    y = y @ _get(state, name + "pwconv1.weight").T + _get(state, name + "pwconv1.bias")
    y = F.gelu(y)
    if name + "grn.gamma" in state:
        spread = y.norm(p=2, dim=(1, 2), keepdim=True)
        scaled = y * (spread / (spread.mean(dim=-1, keepdim=True) + 1e-6))
        y = state[name + "grn.gamma"].flatten() * scaled + state[name + "grn.beta"].flatten() + y
    y = y @ _get(state, name + "pwconv2.weight").T + _get(state, name + "pwconv2.bias")
    if name + "gamma" in state:
        y = y * state[name + "gamma"]
    return x + y.permute(0, 3, 1, 2)


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    """Normalise over the channels of (B, C, h, w)."""
    weight, bias = _get(state, name + "weight"), _get(state, name + "bias")
    centred = x - x.mean(dim=1, keepdim=True)
    scale = (centred.pow(2).mean(dim=1, keepdim=True) + 1e-6).rsqrt()
    return centred * scale * weight[:, None, None] + bias[:, None, None]


def _convolve(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    bias = state[name + "bias"].flatten()
    if name + "weight" in state:
        weight = state[name + "weight"]
        depthwise = weight.shape[1] == 1 and x.shape[1] > 1
        padding = weight.shape[-1] // 2 if depthwise else 0
        return F.conv2d(x, weight, bias, stride, padding, groups=x.shape[1] if depthwise else 1)
    kernel = state[name + "kernel"]  # (k^2, in, out) or (k^2, C)
    side = math.isqrt(kernel.shape[0])
    margin = side // 2 if stride == 1 else 0
    padded = F.pad(x, (margin, margin, margin, margin))
    total = torch.zeros(())
    for point in range(side * side):
        row, column = point % side, point // side
        height, width = x.shape[2] // stride * stride, x.shape[3] // stride * stride
        seen = padded[:, :, row : row + height : stride, column : column + width : stride]
        weights = kernel[point]
        part = (
            seen * weights[:, None, None]
            if weights.ndim == 1
            else torch.einsum("bihw,io->bohw", seen, weights)
        )
        total = total + part
    return total + bias[:, None, None]
