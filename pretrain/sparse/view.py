"""One batch's mask as index tables: where the visible patches are, and what is beside them.

The visible patches are numbered through the batch, and their cells are the rows of a feature map
taken as (n * size * size, C). Below is one image with a 2 x 2 grid of patches (h = w = 2) of
2 x 2 cells (size = 2). Patches 1 and 2 are visible: count = 2, n = 2, rows 0 to 7.

    grid     patch_number   row_of_cell   rows_of_window of visible patch 0, halo 1
    0  1     m  0           m  m  0  1    o  o  o  o
    2  3     1  m           m  m  2  3    m  0  1  o
                            4  5  m  m    m  2  3  o
                            6  7  m  m    5  m  m  o

    m: masked, n (patches) or 8 (cells: one past the last row)    o: outside of the image, 9

    patch_index                           grid place of each visible patch: 1 2
    cell_of_row                           place in the 4 x 4 map of each row: 2 3 6 7 8 9 12 13
    cell_of_row with a margin of 1        the same in a canvas of 6 x 6: 9 10 15 16 19 20 25 26
    rows_of_taps of a 3 x 3 convolution   what output cell 2 reads: m 0 1  m 2 3  5 m m
    cells_of_taps                         where row 0, cell 2 of the map, goes by tap 0 (the upper
                                          left, so down and right): 7; by tap 8 (up): 16, outside

Every table is made at first use and kept for the forward and backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pretrain.kernels import window_entries
from pretrain.sparse.rows import as_rows, fill_rows

Halo = tuple[int, int]  # cells a window reaches before and after the patch along one axis
Reach = tuple[Halo, Halo]  # vertical, horizontal
NO_HALO: Reach = ((0, 0), (0, 0))


class MaskSlot:
    """Where the layers of one model find the mask of the forward pass that is running.

    Each model has its own; outside of `using` it is empty and every layer is timm's plain one.
    """

    def __init__(self) -> None:
        self.view: View | None = None

    @contextmanager
    def using(self, view: "View") -> Iterator[None]:
        """Hand `view` to the layers for the duration of a forward pass."""
        self.view = view
        try:
            yield
        finally:
            self.view = None


class View:
    """A mask over a batch: visible (B, 1, h, w) bool, `patch` pixels along a patch's side.

    `count` patches are visible in every image, n = B * count in the batch; they are numbered image
    by image in raster order.
    """

    def __init__(self, visible: Tensor, patch: int, count: int) -> None:
        self.visible, self.patch, self.count = visible, patch, count
        self.batch, _, self.h, self.w = visible.shape
        self.n = self.batch * count
        order = visible.flatten(1).byte().argsort(dim=1, descending=True, stable=True)
        first = torch.arange(self.batch, device=visible.device) * (self.h * self.w)
        self.patch_index = (order[:, :count] + first[:, None]).flatten()  # (n,) into (B, h, w)
        self._tables: dict[tuple[object, ...], Tensor] = {}

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the encoder is given of `images` (B, 3, H, W)."""
        raise NotImplementedError

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        """Return a feature map of the encoder as (B, C, H', W'); masked cells are `fill` or zero.

        fill (1, C, 1, 1); its gradient is one sum over all masked cells.
        """
        raise NotImplementedError

    def mask_of(self, height: int) -> Tensor:
        """Return `visible` for a map of `height` cells: (B, 1, height, width) bool."""
        cells = height // self.h
        return self.visible.repeat_interleave(cells, 2).repeat_interleave(cells, 3)

    def grid_places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, row and column of each visible patch, (n,) each."""
        image = self.patch_index // (self.h * self.w)
        place = self.patch_index % (self.h * self.w)
        return image, place // self.w, place % self.w

    def canvas_size(self, size: int, margin: Reach = NO_HALO) -> tuple[int, int]:
        """Return (height, width) of a map of `size` cells per patch with `margin` around it."""
        vertical, horizontal = margin
        return self.h * size + sum(vertical), self.w * size + sum(horizontal)

    def cell_of_row(self, size: int, margin: Reach = NO_HALO) -> Tensor:
        """Return the place of each row in maps (B, H', W') with `margin`: (n * size * size,).

        All places differ.
        """

        def make() -> Tensor:
            (top, _), (left, _) = margin
            height, width = self.canvas_size(size, margin)
            image, row, column = self.grid_places()
            y = (row * size + top)[:, None] + self._axis(size)  # (n, size)
            x = (column * size + left)[:, None] + self._axis(size)
            cell = (image[:, None] * height + y)[:, :, None] * width + x[:, None]
            return cell.flatten()

        return self._table(("cell_of_row", size, margin), make)

    def _table(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if key not in self._tables:
            self._tables[key] = make()
        return self._tables[key]

    def _axis(self, size: int, halo: Halo = (0, 0)) -> Tensor:
        return torch.arange(-halo[0], size + halo[1], device=self.visible.device)


class DenseView(View):
    """The reference: the encoder's maps are whole, zero where masked."""

    def mask_like(self, x: Tensor, height: int) -> Tensor:
        """Return `mask_of` in the type of `x`, 1 = visible."""
        make: Callable[[], Tensor] = lambda: self.mask_of(height).to(x.dtype)  # noqa: E731
        return self._table(("mask", height, x.dtype), make)

    def inputs(self, images: Tensor) -> Tensor:
        return images * self.mask_like(images, images.shape[2])

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        mask = self.mask_of(feature.shape[2])
        dense = feature * mask if fill is None else torch.where(mask, feature, fill)
        # Channels first: whole maps train quicker that way by oneDNN (gradient by the weights).
        return dense.contiguous() if dense.is_cpu else dense


class PatchView(View):
    """The visible patches as the batch: n small maps in the order of their numbers."""

    def __init__(self, visible: Tensor, patch: int, count: int) -> None:
        super().__init__(visible, patch, count)
        self.patch_number = self.patch_index.new_full((self.batch * self.h * self.w,), self.n)
        self.patch_number[self.patch_index] = self._axis(self.n)
        self._entries: dict[tuple[int, Halo], tuple[Tensor, Tensor, Tensor]] = {}

    def inputs(self, images: Tensor) -> Tensor:
        """Return the visible patches of `images`, (n, 3, p, p), channels last."""
        p = self.patch
        grid = images.unflatten(3, (self.w, p)).unflatten(2, (self.h, p))  # (B, 3, h, p, w, p)
        cells = grid.permute(0, 2, 4, 3, 5, 1)  # (B, h, w, p, p, 3)
        return cells[self.grid_places()].permute(0, 3, 1, 2)

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        rows, size = as_rows(feature), feature.shape[2]
        height, width = self.canvas_size(size)
        masked = rows.new_zeros(rows.shape[1]) if fill is None else fill.flatten()
        whole = fill_rows(masked, self.batch * height * width, self.cell_of_row(size), rows)
        return whole.view(self.batch, height, width, -1).permute(0, 3, 1, 2)

    def row_of_cell(self, size: int) -> Tensor:
        """Return the row of each cell of the whole map: (B, h * size, w * size)."""

        def make() -> Tensor:
            y, x = self._axis(self.h * size), self._axis(self.w * size)
            numbers = self.patch_number.view(self.batch, self.h, self.w)
            number = numbers[:, y // size][:, :, x // size]
            row = number * (size * size) + (y % size)[:, None] * size + x % size
            return row.clamp_(max=self.n * size * size)

        return self._table(("row_of_cell", size), make)

    def rows_of_window(self, size: int, vertical: Halo, horizontal: Halo) -> Tensor:
        """Return the rows of each patch and its halo: (n, before + size + after, same for x)."""

        def make() -> Tensor:
            image, row, column = self.grid_places()
            y = (row * size)[:, None] + self._axis(size, vertical)
            x = (column * size)[:, None] + self._axis(size, horizontal)
            height, width = self.canvas_size(size)
            inside_y, inside_x = (y >= 0) & (y < height), (x >= 0) & (x < width)
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            rows = self.row_of_cell(size)[image[:, None, None], y[:, :, None], x[:, None]]
            inside = inside_y[:, :, None] & inside_x[:, None]
            return torch.where(inside, rows, self.n * size * size + 1)

        return self._table(("rows_of_window", size, vertical, horizontal), make)

    def rows_of_taps(
        self, size: int, vertical: Halo, horizontal: Halo, kernel: tuple[int, int], stride: int
    ) -> Tensor:
        """Return the rows that each output cell's window reads: (n, size', size', k * k).

        Masked cells and those outside are n * size * size alike.
        """

        def make() -> Tensor:
            windows = self.rows_of_window(size, vertical, horizontal)
            windows = windows.clamp(max=self.n * size * size)
            return windows.unfold(1, kernel[0], stride).unfold(2, kernel[1], stride).flatten(3)

        return self._table(("rows_of_taps", size, vertical, horizontal, kernel, stride), make)

    def cells_of_taps(self, size: int) -> Tensor:
        """Return where a 3 x 3 convolution of the whole map, padding 1, carries each row.

        (n * size * size, 9): per tap the cell of the map (B * H' * W',); one past the last where
        that is outside.
        """

        def make() -> Tensor:
            height, width = self.canvas_size(size)
            image, row, column = self.grid_places()
            around = -self._axis(1, (1, 1))  # tap t carries a cell by -t
            y = ((row * size)[:, None] + self._axis(size))[:, :, None] + around  # (n, size, 3)
            x = ((column * size)[:, None] + self._axis(size))[:, :, None] + around
            inside_y, inside_x = (y >= 0) & (y < height), (x >= 0) & (x < width)
            cell = y[:, :, None, :, None] * width + x[:, None, :, None]
            cell = cell + image[:, None, None, None, None] * (height * width)
            inside = inside_y[:, :, None, :, None] & inside_x[:, None, :, None]
            return torch.where(inside, cell, self.batch * height * width).flatten(3).flatten(0, 2)

        return self._table(("cells_of_taps", size), make)

    def visible_entries(self, size: int, halo: Halo) -> tuple[Tensor, Tensor, Tensor]:
        """Return the visible cells of each cell's centred window, for `kernels.depthwise`."""
        key = (size, halo)
        if key not in self._entries:
            kernel = 2 * halo[0] + 1
            taps = self.rows_of_taps(size, halo, halo, (kernel, kernel), 1).flatten(0, 2)
            self._entries[key] = window_entries(taps, self.n * size * size)
        return self._entries[key]
