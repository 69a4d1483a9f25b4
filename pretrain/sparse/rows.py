"""A feature map as rows (cells, channels), read and written at indices that are all different.

Reading by plain indexing would add the gradients of equal indices one by one: on a GPU that is
serial, and in bfloat16 a sum stops growing after a few hundred terms.
"""

from typing import Any

import torch
from torch import Tensor


def as_rows(feature: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N * H * W, C): a view where the layout is channels last."""
    return feature.permute(0, 2, 3, 1).reshape(-1, feature.shape[1])


def select_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return rows (R, C) at `index` (N,), no two of them equal: (N, C).

    The gradient is copied to its row, not added.
    """
    return SelectRows.apply(rows, index)


def fill_rows(fill: Tensor, count: int, index: Tensor, rows: Tensor) -> Tensor:
    """Return (count, C): `rows` (N, C) at `index`, no two of them equal, `fill` (C,) elsewhere.

    The result has the wider of both types, as torch.where has. The gradient of `fill` is one sum.
    """
    return FillRows.apply(fill, count, index, rows)


class SelectRows(torch.autograd.Function):
    """See `select_rows`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = rows.shape
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.shape).index_copy_(0, index, grads[0]), None


class FillRows(torch.autograd.Function):
    """See `fill_rows`."""

    @staticmethod
    def forward(ctx: Any, fill: Tensor, count: int, index: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.dtypes = fill.dtype, rows.dtype
        wider = torch.promote_types(fill.dtype, rows.dtype)
        out = fill.to(wider).expand(count, -1).contiguous()
        return out.index_copy_(0, index, rows.to(wider))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor]:
        (index,), grad = ctx.saved_tensors, grads[0]
        grad_fill = None
        if ctx.needs_input_grad[0]:
            grad_fill = grad.index_fill(0, index, 0).sum(0).to(ctx.dtypes[0])
        return grad_fill, None, None, grad.index_select(0, index).to(ctx.dtypes[1])
