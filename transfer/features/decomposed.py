"""Decomposed relative positions, as ViTDet adds them to each block of a plain ViT.

A block has a table for rows and one for columns, (2 s - 1, C / heads) for a side of s patches. The
logit of query q and key k gets q . h[y_q - y_k] + q . w[x_q - x_k], q without the scale of the
logits. Sources: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection,
section 3; facebookresearch/detectron2 modeling/backbone/{vit,utils}.py.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TABLES = ("rel_pos_h", "rel_pos_w")  # of an attention, Detectron2's names


def add_tables(attention: Any, side: int) -> None:
    """Add both tables, zero, for `side` x `side` patches; zeros change nothing until trained."""
    for name in TABLES:
        table = torch.zeros(2 * side - 1, attention.head_dim)
        attention.register_parameter(name, nn.Parameter(table))


def has_tables(attention: Any) -> bool:
    """Return whether `add_tables` has been called."""
    return getattr(attention, TABLES[0], None) is not None


def attend(attention: Any, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Compute timm's self-attention over (B, h w, C) with the bias of the tables.

    The bias is a product of two vectors: the query's own biases to all rows and columns, and the
    key's row and column as ones among zeros. Beside query and key they need no (h w, h w) matrix.
    """
    h, w = grid
    qkv = attention.qkv(x).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q, k, v = attention.q_norm(qkv[0]), attention.k_norm(qkv[1]), qkv[2]
    rows, columns = (_offsets(getattr(attention, n), s) for n, s in zip(TABLES, grid, strict=True))
    places = q.unflatten(2, (h, w))
    to_rows = torch.einsum("bnhwc,hkc->bnhwk", places, rows.to(q.dtype)).flatten(2, 3)
    to_columns = torch.einsum("bnhwc,wkc->bnhwk", places, columns.to(q.dtype)).flatten(2, 3)
    row = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, 0)
    column = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
    ones = torch.cat([row, column], 1).expand(*k.shape[:2], -1, -1)
    query = torch.cat([q * attention.scale, to_rows, to_columns], -1)
    dropout = attention.attn_drop.p if attention.training else 0.0
    out = F.scaled_dot_product_attention(
        query, torch.cat([k, ones], -1), v, dropout_p=dropout, scale=1.0
    )
    return attention.proj_drop(attention.proj(attention.norm(out.transpose(1, 2).flatten(2))))


def _offsets(table: Tensor, side: int) -> Tensor:
    """Return (side, side, C): for query i and key j the row of i - j, resized if need be."""
    wanted = 2 * side - 1
    if len(table) != wanted:
        table = F.interpolate(table.T[None].float(), size=wanted, mode="linear")[0].T
    return table.unfold(0, side, 1).flip(2).transpose(1, 2)
