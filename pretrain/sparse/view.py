"""One batch's mask, as the layers need it: where the visible patches are, and their neighbours."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pretrain.kernels import window_entries

Halo = tuple[int, int]  # cells a window reaches before and after the patch along one axis


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
    """A mask over a batch: visible (B, 1, h, w) bool, `patch` pixels along a patch's side."""

    def __init__(self, visible: Tensor, patch: int) -> None:
        self.visible, self.patch = visible, patch
        self.batch, _, self.h, self.w = visible.shape

    def inputs(self, images: Tensor) -> Tensor:
        """What the encoder is given of `images` (B, 3, H, W)."""
        raise NotImplementedError

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        """A feature map of the encoder -> (B, C, H', W'); masked cells are `fill` (1, C, 1, 1)."""
        raise NotImplementedError

    def mask_of(self, height: int) -> Tensor:
        """`visible` for a map of `height` cells: (B, 1, height, width) bool."""
        cells = height // self.h
        return self.visible.repeat_interleave(cells, 2).repeat_interleave(cells, 3)


class DenseView(View):
    """The reference: the encoder's maps are whole, zero where masked; `count` visible patches."""

    def __init__(self, visible: Tensor, patch: int, count: int) -> None:
        super().__init__(visible, patch)
        self.count = count
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}
        self._positions: dict[int, Tensor] = {}

    def mask_like(self, x: Tensor, height: int) -> Tensor:
        """`mask_of` in the type of `x`, 1 = visible."""
        key = (height, x.dtype)
        if key not in self._masks:
            self._masks[key] = self.mask_of(height).to(x.dtype)
        return self._masks[key]

    def positions_of(self, height: int) -> Tensor:
        """Visible cells of a map of `height`, as indices into its flattened (B, H', W')."""
        if height not in self._positions:
            size = self.batch * self.count * (height // self.h) ** 2
            mask = self.mask_of(height).flatten()
            self._positions[height] = mask.nonzero_static(size=size).squeeze(1)
        return self._positions[height]

    def inputs(self, images: Tensor) -> Tensor:
        return images * self.mask_like(images, images.shape[2])

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        mask = self.mask_of(feature.shape[2])
        # Channels first: whole maps train quicker that way by oneDNN (gradient by the weights).
        dense = feature * mask if fill is None else torch.where(mask, feature, fill)
        return dense.contiguous()


class PatchView(View):
    """The visible patches as a batch of n = B * count, images in order, patches in raster order.

    A cell of a feature map of P x P cells a patch is addressed by its row, patch * P * P + y * P
    + x, in the map as (n * P * P, C). Two rows more stand for what is not there: the first for
    masked cells, the second for cells outside of the image.
    """

    def __init__(self, visible: Tensor, patch: int, count: int) -> None:
        super().__init__(visible, patch)
        self.count, self.n = count, self.batch * count
        order = visible.flatten(1).byte().argsort(dim=1, descending=True, stable=True)
        first = torch.arange(self.batch, device=visible.device) * (self.h * self.w)
        self.index = (order[:, :count] + first[:, None]).flatten()  # (n,) into (B, h, w)
        self.slot = self.index.new_full((self.batch * self.h * self.w,), self.n)
        self.slot[self.index] = torch.arange(self.n, device=visible.device)
        self._windows: dict[tuple[int, Halo, Halo], Tensor] = {}
        self._entries: dict[tuple[int, Halo], tuple[Tensor, Tensor, Tensor]] = {}
        self._places: dict[int, Tensor] = {}
        self._taps: dict[tuple[object, ...], Tensor] = {}
        self._cells: dict[int, Tensor] = {}

    def inputs(self, images: Tensor) -> Tensor:
        """(n, 3, p, p), channels last."""
        p = self.patch
        grid = images.unflatten(3, (self.w, p)).unflatten(2, (self.h, p))  # (B, 3, h, p, w, p)
        cells = grid.permute(0, 2, 4, 3, 5, 1)  # (B, h, w, p, p, 3)
        image, place = self.index // (self.h * self.w), self.index % (self.h * self.w)
        return cells[image, place // self.w, place % self.w].permute(0, 3, 1, 2)

    def densify(self, feature: Tensor, fill: Tensor | None = None) -> Tensor:
        cells = feature.shape[2]
        rows = as_rows(feature)
        missing = rows.new_zeros(1, rows.shape[1]) if fill is None else fill.flatten()[None]
        rows = torch.cat((rows, missing.to(rows.dtype)))
        out = rows[self.cells(cells)]  # (B, H', W', C)
        return out.permute(0, 3, 1, 2)

    def cells(self, size: int) -> Tensor:
        """The row of each cell of the whole map: (B, h * P, w * P), P = `size` cells a patch."""
        if size not in self._cells:
            y, x = self._axis(self.h * size), self._axis(self.w * size)
            slot = self.slot.view(self.batch, self.h, self.w)[:, y // size][:, :, x // size]
            row = slot * (size * size) + (y % size)[:, None] * size + x % size
            self._cells[size] = row.clamp_(max=self.n * size * size)
        return self._cells[size]

    def windows(self, size: int, vertical: Halo, horizontal: Halo) -> Tensor:
        """The rows of each patch and its halo: (n, P + before + after, the same for x)."""
        key = (size, vertical, horizontal)
        if key not in self._windows:
            place = self.index % (self.h * self.w)
            image = (self.index // (self.h * self.w))[:, None, None]
            y = (place // self.w * size)[:, None] + self._axis(size, vertical)  # (n, rows)
            x = (place % self.w * size)[:, None] + self._axis(size, horizontal)
            inside = ((y >= 0) & (y < self.h * size))[:, :, None] & (
                (x >= 0) & (x < self.w * size)
            )[:, None, :]
            y, x = y.clamp(0, self.h * size - 1)[:, :, None], x.clamp(0, self.w * size - 1)[:, None]
            row = self.cells(size)[image, y, x]
            self._windows[key] = torch.where(inside, row, self.n * size * size + 1)
        return self._windows[key]

    def taps(
        self, size: int, vertical: Halo, horizontal: Halo, kernel: tuple[int, int], stride: int
    ) -> Tensor:
        """The rows of each output cell's window: (n, P', P', k k); n * P * P where none is."""
        key = (size, vertical, horizontal, kernel, stride)
        if key not in self._taps:
            windows = self.windows(size, vertical, horizontal).clamp(max=self.n * size * size)
            taps = windows.unfold(1, kernel[0], stride).unfold(2, kernel[1], stride)
            self._taps[key] = taps.flatten(3)
        return self._taps[key]

    def places(self, size: int) -> Tensor:
        """Where each visible cell goes in a 3 x 3 convolution of the whole map, padding 1.

        (n * P * P, 9): the output rows of the map (B * H' * W',) to which tap t carries the cell;
        one past the last where that is outside.
        """
        if size not in self._places:
            height, width = self.h * size, self.w * size
            inside = self._axis(size)
            place, image = self.index % (self.h * self.w), self.index // (self.h * self.w)
            around = -self._axis(1, (1, 1))  # tap t carries a cell by -t
            y = ((place // self.w * size)[:, None] + inside)[:, :, None] + around  # (n, P, 3)
            x = ((place % self.w * size)[:, None] + inside)[:, :, None] + around
            valid = ((y >= 0) & (y < height))[:, :, None, :, None] & ((x >= 0) & (x < width))[
                :, None, :, None, :
            ]
            row = y[:, :, None, :, None] * width + x[:, None, :, None, :]
            row = row + image[:, None, None, None, None] * (height * width)
            row = torch.where(valid, row, self.batch * height * width)
            self._places[size] = row.flatten(3).flatten(0, 2)
        return self._places[size]

    def entries(self, size: int, halo: Halo) -> tuple[Tensor, Tensor, Tensor]:
        """The visible cells of each cell's centred window, for `kernels.depthwise`."""
        key = (size, halo)
        if key not in self._entries:
            kernel = 2 * halo[0] + 1
            taps = self.taps(size, halo, halo, (kernel, kernel), 1).flatten(0, 2)
            self._entries[key] = window_entries(taps, self.n * size * size)
        return self._entries[key]

    def _axis(self, size: int, halo: Halo = (0, 0)) -> Tensor:
        return torch.arange(-halo[0], size + halo[1], device=self.index.device)


def as_rows(feature: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C): a view where the layout is channels last."""
    return feature.permute(0, 2, 3, 1).reshape(-1, feature.shape[1])
