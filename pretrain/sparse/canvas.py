"""Windows that reach past a patch where torch computes: on GPUs, under autocast, compiled.

    rows of visible patches -> canvas     the whole map with a margin, zero where masked; each
                                          cell is written once
    canvas -> windows                     one per patch of the grid: overlapping strided views
    windows -> those of visible patches   each read once; convolved without padding

No index occurs twice, so no gradient is added to one row by many threads. A gather of neighbours,
as halo.py has it for the CPU, would return the gradients of all masked cells to a single row.
"""

from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.sparse.rows import as_rows, select_rows
from pretrain.sparse.view import PatchView, Reach


def canvas_of(x: Tensor, view: PatchView, margin: Reach, outside: float = 0.0) -> Tensor:
    """Return the whole map of x (n, C, P, P) with `margin`: (B, H', W', C).

    Masked cells are 0, those of the margin `outside`.
    """
    rows, size = as_rows(x), x.shape[2]
    (top, bottom), (left, right) = margin
    height, width = view.canvas_size(size, margin)
    shape = (view.batch, height, width, rows.shape[1])
    canvas = rows.new_full((view.batch * height * width, rows.shape[1]), outside)
    if outside != 0.0:
        canvas.view(shape)[:, top : height - bottom, left : width - right].zero_()
    return canvas.index_copy_(0, view.cell_of_row(size, margin), rows).view(shape)


def visible_windows(x: Tensor, view: PatchView, reach: Reach, outside: float = 0.0) -> Tensor:
    """Return x (n, C, P, P) with its halo: (n, C, P + before + after, ...), channels last.

    Cells of the halo are 0 where masked, `outside` off the image.
    """
    canvas = canvas_of(x, view, reach, outside)
    size = x.shape[2]
    window = size + sum(reach[0]), size + sum(reach[1])
    windows = VisibleWindows.apply(canvas, window, size, *view.grid_places())
    return windows.permute(0, 3, 1, 2)


def canvas_conv(x: Tensor, conv: nn.Conv2d, view: PatchView, reach: Reach) -> Tensor:
    """Convolve x (n, C, P, P) over its visible neighbours, whatever the padding of `conv`.

    One that mixes channels costs what it multiplies: only the visible windows. A depthwise one
    costs what it reads and writes: the whole map, without the copies that windows are.
    """
    options = (conv.stride, 0, conv.dilation, conv.groups)
    if conv.groups < conv.in_channels:
        windows = visible_windows(x, view, reach)
        return F.conv2d(windows, conv.weight, conv.bias, *options)
    canvas = canvas_of(x, view, reach).permute(0, 3, 1, 2)
    out = F.conv2d(canvas, conv.weight, conv.bias, *options)  # (B, C, h P', w P')
    size = out.shape[2] // view.h
    rows = select_rows(as_rows(out), view.cell_of_row(size))
    return rows.view(view.n, size, size, -1).permute(0, 3, 1, 2)


class VisibleWindows(torch.autograd.Function):
    """Cut the windows of the visible patches out of a canvas, one every `size` cells.

    canvas (B, H', W', C); `places` image, row and column of each visible patch, (n,) each
    -> (n, window[0], window[1], C).
    """

    @staticmethod
    def forward(
        ctx: Any, canvas: Tensor, window: tuple[int, int], size: int, *places: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*places)
        ctx.shape, ctx.window, ctx.size = canvas.shape, window, size
        views = canvas.unfold(1, window[0], size).unfold(2, window[1], size)  # (B, h, w, C, ..)
        return views.permute(0, 1, 2, 4, 5, 3)[places]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        places = ctx.saved_tensors
        (batch, height, width, channels), size = ctx.shape, ctx.size
        (down, across), (y, x) = ctx.window, (ceil(side / ctx.size) for side in ctx.window)
        h, w = (height - down) // size + 1, (width - across) // size + 1
        # Windows as blocks of size x size: those at one place of their windows do not overlap.
        windows = grads[0].new_zeros(batch, h, w, y * size, x * size, channels)
        windows[:, :, :, :down, :across].index_put_(places, grads[0])
        blocks = windows.view(batch, h, w, y, size, x, size, channels)
        total = grads[0].new_zeros(batch, h + y - 1, size, w + x - 1, size, channels)
        for i in range(y):
            for j in range(x):
                total[:, i : i + h, :, j : j + w] += blocks[:, :, :, i, :, j].transpose(2, 3)
        canvas = total.view(batch, (h + y - 1) * size, (w + x - 1) * size, channels)
        return canvas[:, :height, :width], None, None, *(None for _ in places)
