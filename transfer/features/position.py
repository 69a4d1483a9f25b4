"""Position parameters at another grid size.

BEiT's relative position tables follow microsoft/unilm beit/semantic_segmentation/mmcv_custom/
checkpoint.py: a cubic spline on a geometric grid (linear interpolation degrades detection). That
spline is linear in the table and separable, so it is two small matrices: table' = Ry table Rx^T,
differentiable and exact for any rectangle.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from timm.layers import to_2tuple
from torch import Tensor

CLASS_ROWS = 3  # class token to patch, patch to class token, class token to itself


@lru_cache(maxsize=512)
def spline_matrix(old_window: int, new_window: int) -> NDArray[np.float64]:
    """Return (2 new - 1, 2 old - 1): new offsets as a spline of the old window's offsets."""
    old, new = 2 * old_window - 1, 2 * new_window - 1
    if old == new:
        return np.eye(old)
    if old == 1:
        return np.ones((new, 1))
    grid = _geometric_grid(old, new)
    offsets = np.arange(new, dtype=np.float64) - new // 2
    spline = make_interp_spline(grid, np.eye(old), k=min(3, old - 1))
    return np.asarray(spline(np.clip(offsets, grid[0], grid[-1])), dtype=np.float64)


def _geometric_grid(old: int, new: int) -> NDArray[np.float64]:
    """Place the `old` table entries among the new integer offsets: steps 1, q, q^2, ..."""
    left, right, half = 1.01, 1.5, old // 2
    while right - left > 1e-6:
        q = (left + right) / 2
        if (1 - q**half) / (1 - q) > new // 2:
            right = q
        else:
            left = q
    distances = np.cumsum(q ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])


def resize_relative_position(
    table: Tensor, old_window: int | tuple[int, int], new_window: int | tuple[int, int]
) -> Tensor:
    """Resize ((2h-1)(2w-1) + 3, heads) from `old_window` to `new_window`, both in patches.

    The last three rows belong to the class token and stay as they are. Raises ValueError if the
    table does not fit `old_window`.
    """
    (old_h, old_w), (new_h, new_w) = to_2tuple(old_window), to_2tuple(new_window)
    rows = (2 * old_h - 1) * (2 * old_w - 1) + CLASS_ROWS
    if table.ndim != 2 or table.shape[0] != rows:
        raise ValueError(
            f"a relative position table for a window of {old_h}x{old_w} patches has {rows} rows, "
            f"this one has the shape {tuple(table.shape)}"
        )
    if (old_h, old_w) == (new_h, new_w):
        return table
    body, class_rows = table[:-CLASS_ROWS], table[-CLASS_ROWS:]
    resized = resize_offsets(body.reshape(2 * old_h - 1, 2 * old_w - 1, -1), (new_h, new_w))
    return torch.cat([resized.reshape(-1, table.shape[1]), class_rows])


def resize_offsets(offsets: Tensor, new_window: tuple[int, int]) -> Tensor:
    """Resize (2h-1, 2w-1, heads) to (2h'-1, 2w'-1, heads) by a separable spline; differentiable."""
    old_h, old_w = (offsets.shape[0] + 1) // 2, (offsets.shape[1] + 1) // 2
    rows, columns = (
        torch.from_numpy(spline_matrix(old, new)).to(offsets.device, torch.float32)
        for old, new in zip((old_h, old_w), new_window, strict=True)
    )
    with torch.autocast(offsets.device.type, enabled=False):
        resized = torch.einsum("yi,ijn,xj->yxn", rows, offsets.float(), columns)
    return resized.to(offsets.dtype)


def resize_position_embedding(
    embedding: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int,
) -> Tensor:
    """Resize (1, prefix + h w, C): bicubic, align_corners off, as in MAE and BEiT.

    Raises ValueError if the embedding does not have prefix + h w rows.
    """
    old_h, old_w = old_grid
    if embedding.shape[1] != prefix_tokens + old_h * old_w:
        raise ValueError(
            f"a position embedding of {old_h}x{old_w} patches and {prefix_tokens} other tokens has "
            f"{prefix_tokens + old_h * old_w} rows, this one has the shape "
            f"{tuple(embedding.shape)}"
        )
    if tuple(old_grid) == tuple(new_grid):
        return embedding
    prefix, patches = embedding[:, :prefix_tokens], embedding[:, prefix_tokens:]
    grid = patches.reshape(1, old_h, old_w, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=tuple(new_grid), mode="bicubic", align_corners=False)
    resized = grid.permute(0, 2, 3, 1).flatten(1, 2).to(embedding.dtype)
    return torch.cat([prefix, resized], dim=1)


def square_window(rows: int) -> int | None:
    """Return the side in patches of the square window whose table has `rows` rows, or None."""
    side = round((rows - CLASS_ROWS) ** 0.5) if rows > CLASS_ROWS else 0
    return (side + 1) // 2 if side % 2 and side * side == rows - CLASS_ROWS else None
