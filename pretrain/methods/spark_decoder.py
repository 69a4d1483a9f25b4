"""SparK's light UNet decoder (keyu-tian/SparK `pretrain/decoder.py`), and a quicker way to run it.

A block is a transposed convolution (4 x 4, stride 2), then a 3 x 3 convolution with nothing
between them: together one linear map, which on the four phases of the output is one 3 x 3
convolution of the input, 9 C^2 instead of 13 C^2 multiplications a pixel. Only the outermost ring
of pixels differs, where the 3 x 3 convolution sees zeros instead of the transposed convolution's
overhang; it is computed in two steps from thin strips.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.kernels import on_cpu
from pretrain.kernels.convolution import conv3x3, norm_conv
from pretrain.sparse.products import transposed_conv


class Decoder(nn.Module):
    """Each block doubles the map and halves the channels; then a 1 x 1 convolution to RGB.

    `width`: channels of the smallest map. `merge`: run the quicker form where it is quicker.
    """

    def __init__(self, width: int, upsampling: int, *, merge: bool = True) -> None:
        super().__init__()
        blocks = upsampling.bit_length() - 1
        if width % 2**blocks:
            raise ValueError(f"decoder_width={width} must be a multiple of {2**blocks}")
        self.blocks = nn.ModuleList(DecoderBlock(width // 2**i, merge) for i in range(blocks))
        self.proj = nn.Conv2d(width // 2**blocks, 3, kernel_size=1)
        init_decoder(self)
        if merge:  # the layout in which the weights are used
            self.to(memory_format=torch.channels_last)

    def forward(self, densified: list[Tensor]) -> Tensor:
        """`densified` (B, width / 2^i, ...), smallest map first -> (B, 3, H, W)."""
        x = densified[0]
        for i, block in enumerate(self.blocks):
            last = i + 1 == len(self.blocks)
            x = x + densified[i] if 0 < i < len(densified) else x
            x = block(x, self.proj if last else None)
        return x


class DecoderBlock(nn.Module):
    """(B, C, H, W) -> (B, C / 2, 2H, 2W)."""

    def __init__(self, channels: int, merge: bool) -> None:
        super().__init__()
        self.merge = merge
        self.up = nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6()
        self.conv2 = nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels // 2)

    def forward(self, x: Tensor, proj: nn.Conv2d | None = None) -> Tensor:
        """With `proj`, what that convolution makes of the block's output."""
        if not self.merge:
            x = self.norm2(self.conv2(self.act(self.norm1(self.conv1(self.up(x))))))
            return x if proj is None else proj(x)
        if worth_merging(x):
            x = self.up_conv(x)
        elif on_cpu(x) and self.up.bias is not None:
            x = conv3x3(transposed_conv(x, self.up.weight, self.up.bias), self.conv1.weight)
        else:
            x = self.conv1(self.up(x))
        x = norm_conv(x, self.norm1, self.conv2, self.act)
        return self.norm2(x) if proj is None else norm_conv(x, self.norm2, proj)

    def up_conv(self, x: Tensor) -> Tensor:
        """`conv1(up(x))` as one convolution, and the ring of outermost pixels in two."""
        weight, bias = merged_weights(self.up.weight, self.up.bias, self.conv1.weight)
        x, top, bottom, left, right = Edges.apply(x)
        phases = conv3x3(x, weight, bias)  # (B, 4C, H, W)
        ring = (
            self._edge(self.up(top)[:, :, :2], (1, 1, 1, 0)).squeeze(2),
            self._edge(self.up(bottom)[:, :, 2:], (1, 1, 0, 1)).squeeze(2),
            self._edge(self.up(left)[..., :2], (1, 0, 1, 1)).squeeze(3),
            self._edge(self.up(right)[..., 2:], (0, 1, 1, 1)).squeeze(3),
        )
        return Unshuffled.apply(phases, *ring)

    def _edge(self, pixels: Tensor, padding: tuple[int, ...]) -> Tensor:
        """`conv1` on the outermost line of two lines of pixels, zeros beyond the border."""
        return F.conv2d(F.pad(pixels, padding), self.conv1.weight)


class Edges(torch.autograd.Function):
    """x, and its two outermost lines at the top, bottom, left and right."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        """Return x (B, C, H, W) and copies of its outermost lines."""
        lines = (x[:, :, :2], x[:, :, -2:], x[..., :2], x[..., -2:])
        return x.view_as(x), *(line.clone() for line in lines)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        """Add the gradients of the lines to that of x."""
        whole, top, bottom, left, right = grads
        grad = whole.clone()
        grad[:, :, :2] += top
        grad[:, :, -2:] += bottom
        grad[..., :2] += left
        grad[..., -2:] += right
        return grad


def worth_merging(x: Tensor) -> bool:
    """Return whether merging weights, 144 C^3, costs little beside its gain, 16 C^2 an input cell.

    Measured on CPUs; a GPU's libraries run the two convolutions as quickly.
    """
    batch, channels, height, width = x.shape
    return on_cpu(x) and 16 * batch * height * width > 4 * 144 * channels


def merged_weights(up: Tensor, bias: Tensor | None, conv: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weights (4C, C, 3, 3) and bias (4C,) of the one convolution, phases (row, column) first.

    up (C, C, 4, 4) as ConvTranspose2d has it, conv (C, C, 3, 3). Output pixel 2j + a takes input
    cells j - 1 .. j + 1 with taps a + 4, a + 2, a of the 6 x 6 kernel of both.
    """
    channels = up.shape[0]
    kernel = F.conv2d(up, conv, padding=2)  # (C in, C out, 6, 6)
    taps = kernel.unflatten(3, (3, 2)).unflatten(2, (3, 2)).flip(2, 4)  # (.., 3, a, 3, b)
    weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * channels, channels, 3, 3)
    return weight, None if bias is None else (conv.sum((2, 3)) @ bias).repeat(4)


class Unshuffled(torch.autograd.Function):
    """Phases (B, 4C, H, W), channels (row, column, c) -> (B, C, 2H, 2W), with the ring replaced.

    top, bottom (B, C, 2W) and left, right (B, C, 2H) are the outermost pixels.
    """

    @staticmethod
    def forward(_ctx: Any, phases: Tensor, *ring: Tensor) -> Tensor:
        """Interleave the phases and write the ring."""
        batch, _, h, w = phases.shape
        cells = phases.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # (B, H, W, 2, 2, C)
        out = cells.permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * h, 2 * w, -1)
        top, bottom, left, right = (line.transpose(1, 2) for line in ring)
        out[:, 0], out[:, -1], out[:, :, 0], out[:, :, -1] = top, bottom, left, right
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the phases and of the ring."""
        grad = grads[0]
        # A corner was written last by left or right: only they get its gradient.
        top, bottom = grad[:, :, 0].clone(), grad[:, :, -1].clone()
        top[..., [0, -1]] = 0
        bottom[..., [0, -1]] = 0
        cells = grad.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        phases = cells.permute(0, 1, 3, 2, 4, 5).clone(memory_format=torch.contiguous_format)
        phases[:, 0, :, 0], phases[:, -1, :, 1] = 0, 0
        phases[:, :, 0, :, 0], phases[:, :, -1, :, 1] = 0, 0
        return (
            phases.flatten(3).permute(0, 3, 1, 2),
            top,
            bottom,
            grad[..., 0],
            grad[..., -1],
        )


def init_decoder(decoder: nn.Module) -> None:
    """Convolutions truncated normal 0.02, transposed ones Kaiming by fan-out, biases zero.

    What SparK's `decoder.py` does; its branch for both kinds is reached by the transposed only.
    """
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
