"""Contact sheets: pictures side by side."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

GAP_PX = 4


def sheet(columns: Sequence[Tensor]) -> Image.Image:
    """Columns of (B, 3, H, W) in [0, 1] -> one image with white gaps."""
    padded = [nn.functional.pad(c, (0, GAP_PX, 0, GAP_PX), value=1.0) for c in columns]
    rows = torch.cat(padded, dim=3)  # (B, 3, H + gap, columns * (W + gap))
    sheet = torch.cat(list(rows), dim=1)[:, :-GAP_PX, :-GAP_PX]
    pixels = (sheet * 255).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels.cpu().numpy())


def spread(total: int, count: int) -> list[int]:
    """Return `count` numbers spread evenly over range(total); all of them if there are fewer."""
    count = min(count, total)
    return [round(i * (total - 1) / max(1, count - 1)) for i in range(count)]
