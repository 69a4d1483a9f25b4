"""DALL-E's encoder and decoder networks (Ramesh et al. 2021, arXiv 2102.12092, A.2).

Tensor names and shapes are those of the released encoder and decoder, so their tensors load as
they are (repository openai/DALL-E, `dall_e/encoder.py` and `decoder.py`).
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.config.tokenizer import VAESizes


class Conv(nn.Module):
    """A convolution of odd width that keeps the size; DALL-E's parameter names `w`, `b`."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(n_out, n_in, width, width) / math.sqrt(n_in * width**2))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        return F.conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class Block(nn.Module):
    """x + gain * (relu, conv) four times; the widths of the four convolutions differ by part."""

    def __init__(self, n_in: int, n_out: int, widths: tuple[int, ...], gain: float) -> None:
        super().__init__()
        hidden = n_out // 4
        channels = (n_in, hidden, hidden, hidden, n_out)
        self.gain = gain
        self.id_path = nn.Identity() if n_in == n_out else Conv(n_in, n_out, 1)
        self.res_path = nn.Sequential(
            OrderedDict(
                pair
                for i, width in enumerate(widths, start=1)
                for pair in (
                    (f"relu_{i}", nn.ReLU()),
                    (f"conv_{i}", Conv(channels[i - 1], channels[i], width)),
                )
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        return self.id_path(x) + self.gain * self.res_path(x)


def _groups(
    sizes: VAESizes, channels: list[int], widths: tuple[int, ...], resize: nn.Module
) -> list[tuple[str, nn.Module]]:
    """Build groups of blocks from channels[i] to channels[i + 1], all but the last resized."""
    gain = 1 / (sizes.group_count * sizes.n_blk_per_group) ** 2
    groups: list[tuple[str, nn.Module]] = []
    for i in range(sizes.group_count):
        inputs = [channels[i]] + [channels[i + 1]] * (sizes.n_blk_per_group - 1)
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            (f"block_{j}", Block(n_in, channels[i + 1], widths, gain))
            for j, n_in in enumerate(inputs, start=1)
        )
        if i < sizes.group_count - 1:
            parts["resize"] = resize
        groups.append((f"group_{i + 1}", nn.Sequential(parts)))
    return groups


def _output(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=Conv(n_in, n_out, 1)))


class Encoder(nn.Module):
    """Mapped images (B, 3, H, W) -> logits over the codes (B, vocab_size, H/f, W/f)."""

    def __init__(self, sizes: VAESizes) -> None:
        super().__init__()
        widths = [sizes.n_hid * 2**i for i in range(sizes.group_count)]
        groups = _groups(sizes, [sizes.n_hid, *widths], (3, 3, 3, 1), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(
            OrderedDict(
                [
                    ("input", Conv(3, sizes.n_hid, 7)),
                    *groups,
                    ("output", _output(widths[-1], sizes.vocab_size)),
                ]
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.blocks(x)


class Decoder(nn.Module):
    """Codes (B, vocab_size, h, w), one-hot or relaxed -> means and log scales (B, 6, f h, f w)."""

    def __init__(self, sizes: VAESizes) -> None:
        super().__init__()
        widths = [sizes.n_hid * 2**i for i in reversed(range(sizes.group_count))]
        upsample = nn.Upsample(scale_factor=2, mode="nearest")
        groups = _groups(sizes, [sizes.n_init, *widths], (1, 3, 3, 3), upsample)
        self.blocks = nn.Sequential(
            OrderedDict(
                [
                    ("input", Conv(sizes.vocab_size, sizes.n_init, 1)),
                    *groups,
                    ("output", _output(sizes.n_hid, 6)),
                ]
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.blocks(x)
