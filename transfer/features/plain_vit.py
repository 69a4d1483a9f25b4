"""A timm ViT or BEiT on images of any size, with global or windowed attention.

Global attention gives timm's own values where the input has the size timm was built for. Position
embeddings and BEiT's relative position tables are resized within the forward pass, so gradients
reach them. Windows follow ViTDet (Li et al., section 3; detectron2 modeling/backbone/vit.py): no
class token, zeros pad the map to whole windows after the norm, a few blocks stay global.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.beit import Beit
from timm.models.vision_transformer import Block as ViTBlock
from timm.models.vision_transformer import LayerScale, VisionTransformer
from torch import Tensor, nn

from transfer.features import decomposed
from transfer.features.position import CLASS_ROWS, resize_offsets, resize_position_embedding

PLAIN_VITS = (VisionTransformer, Beit)
TABLE = "relative_position_bias_table"  # of an attention, timm's name
EXTRA_TOKENS = ("cls_token", "dist_token", "reg_token")  # in the order timm puts them


def extra_tokens(encoder: Any) -> list[Tensor]:
    """Return the learned tokens before the patches, each (1, n, C)."""
    tokens = (getattr(encoder, name, None) for name in EXTRA_TOKENS)
    return [token for token in tokens if token is not None]


def drop_extra_tokens(encoder: Any) -> None:
    """Remove the class token and its like: windows have no place for them."""
    for name in EXTRA_TOKENS:
        if getattr(encoder, name, None) is not None:
            setattr(encoder, name, None)


def require_windows_possible(encoder: Any, arch: str) -> None:
    """Raise ValueError if the blocks cannot work on windows."""
    if isinstance(encoder, VisionTransformer):
        odd = {type(block).__name__ for block in encoder.blocks if type(block) is not ViTBlock}
        if odd:
            raise ValueError(f"window_size > 0: {arch} has {', '.join(odd)}, only Block is known")


def add_relative_position(encoder: Any, arch: str) -> None:
    """Add BEiT's relative position table (rows, heads), all zeros, to each block of a ViT.

    Zeros change nothing until trained; the published UperNet runs of MAE start like this
    (mmseg/models/backbones/mae.py). Raises ValueError if the blocks have tables or cannot take
    one.
    """
    _require_plain_blocks(encoder, arch, "relative_position=True")
    h, w = encoder.patch_embed.grid_size
    rows = (2 * h - 1) * (2 * w - 1) + CLASS_ROWS
    for block in encoder.blocks:
        table = nn.Parameter(torch.zeros(rows, block.attn.num_heads))
        block.attn.register_parameter(TABLE, table)


def add_decomposed_position(features: Any, side_px: int) -> None:
    """Add ViTDet's two relative position tables to each block of a TimmFeatures, all zeros.

    side_px: of the images whose positions the global blocks store; other sizes are interpolated.
    Raises ValueError if the blocks cannot take tables, or there is a class token, which has no
    place in them.
    """
    encoder = features.encoder
    option = f"decomposed_position={side_px}"
    _require_plain_blocks(encoder, features.arch, option)
    if side_px % features.patch_px:
        raise ValueError(f"{option} is not a multiple of the patch, {features.patch_px} pixels")
    if any(block.attn.gate is not None for block in encoder.blocks):
        raise ValueError(f"{option} is not known for gated attention, which {features.arch} has")
    if extra_tokens(encoder):
        raise ValueError(f"{option} needs window_size > 0, which does without the class token")
    for i, block in enumerate(encoder.blocks):
        alone = i in features.global_blocks or not features.window_size
        decomposed.add_tables(
            block.attn, side_px // features.patch_px if alone else features.window_size
        )


def add_layer_scale(encoder: Any, arch: str, value: float) -> None:
    """Give each block of a ViT layer scales that begin at `value`; 1.0 changes nothing at first.

    Raises ValueError if the blocks already have layer scales, or cannot take any.
    """
    _require_plain_blocks(encoder, arch, f"layer_scale={value}")
    for block in encoder.blocks:
        for name in ("ls1", "ls2"):
            if not isinstance(getattr(block, name), nn.Identity):
                raise ValueError(f"layer_scale={value}: {arch} has layer scales of its own")
            setattr(block, name, LayerScale(encoder.embed_dim, init_values=value))


def _require_plain_blocks(encoder: Any, arch: str, option: str) -> None:
    blocks: Any = encoder.blocks if isinstance(encoder, VisionTransformer) else []
    known = all(type(block) is ViTBlock and type(block.attn) is Attention for block in blocks)
    if not len(blocks) or not known:
        raise ValueError(f"{option} is for ViTs of timm's own Block and Attention, not for {arch}")


def embed(encoder: Any, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Embed (B, 3, H, W), sides multiples of the patch: tokens (B, extra + h w, C) and (h, w)."""
    patch_h, patch_w = encoder.patch_embed.patch_size
    grid = images.shape[2] // patch_h, images.shape[3] // patch_w
    patches = encoder.patch_embed(images)
    patches = patches.reshape(patches.shape[0], grid[0] * grid[1], -1)
    extra = [token.expand(len(images), -1, -1) for token in extra_tokens(encoder)]
    position = _position(encoder, grid)
    if position is not None:
        own = position.shape[1] - patches.shape[1]  # rows that belong to the extra tokens
        patches = patches + position[:, own:]
        if extra and own:
            extra = [torch.cat(extra, dim=1) + position[:, :own]]
    tokens = encoder.pos_drop(torch.cat([*extra, patches], dim=1))
    if isinstance(encoder, VisionTransformer):
        tokens = encoder.norm_pre(encoder.patch_drop(tokens))
    return tokens, grid


def _position(encoder: Any, grid: tuple[int, int]) -> Tensor | None:
    if encoder.pos_embed is None:
        return None
    old_grid = encoder.patch_embed.grid_size
    own = encoder.pos_embed.shape[1] - old_grid[0] * old_grid[1]
    return resize_position_embedding(encoder.pos_embed, old_grid, grid, own)


def run_block(
    block: Any,
    tokens: Tensor,
    grid: tuple[int, int],
    stored_grid: tuple[int, int],
    window: int = 0,
) -> Tensor:
    """Run a block on (B, extra + h w, C); `window` is in patches, 0 = global attention.

    `stored_grid` is the grid of the block's relative position table.
    """
    relative = getattr(block.attn, TABLE, None) is not None or decomposed.has_tables(block.attn)
    if not window and not relative:
        return block(tokens)
    if window:
        windows, cut = _cut(block.norm1(tokens), grid, window)
        attended = _attend(block.attn, windows, (window, window), stored_grid)
        attended = _join(attended, cut, grid, window)
    else:
        attended = _attend(block.attn, block.norm1(tokens), grid, stored_grid)
    tokens = tokens + block.drop_path1(_layer_scale(block, 1, attended))
    mlp = block.mlp(block.norm2(tokens))
    return tokens + block.drop_path2(_layer_scale(block, 2, mlp))


def _layer_scale(block: Any, which: int, x: Tensor) -> Tensor:
    if isinstance(block, ViTBlock):
        return getattr(block, f"ls{which}")(x)
    gamma = getattr(block, f"gamma_{which}")
    return x if gamma is None else gamma * x


def _attend(
    attention: Any, x: Tensor, grid: tuple[int, int], stored_grid: tuple[int, int]
) -> Tensor:
    """Compute self-attention over (B, n, C), with a relative position bias if it has tables."""
    if decomposed.has_tables(attention):
        return decomposed.attend(attention, x, grid)
    table = getattr(attention, TABLE, None)
    if table is None:
        return attention(x)
    extra = x.shape[1] - grid[0] * grid[1]
    bias = relative_bias(table, stored_grid, grid, bool(extra))
    if isinstance(attention, Attention):
        return attention(x, attn_mask=bias.to(x.dtype))
    qkv_bias = None
    if attention.q_bias is not None:
        qkv_bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    qkv = F.linear(x, attention.qkv.weight, qkv_bias)
    q, k, v = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropout = attention.attn_drop.p if attention.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
    return attention.proj_drop(attention.proj(out.transpose(1, 2).flatten(2)))


def relative_bias(
    table: Tensor, stored_grid: tuple[int, int], grid: tuple[int, int], class_token: bool
) -> Tensor:
    """Expand (rows, heads) of `stored_grid` to (1, heads, n, n); n counts the class token."""
    stored_h, stored_w = stored_grid
    (h, w), heads = grid, table.shape[1]
    offsets = table[:-CLASS_ROWS].reshape(2 * stored_h - 1, 2 * stored_w - 1, heads)
    if grid != tuple(stored_grid):
        offsets = resize_offsets(offsets, grid)
    # query (y, x) and key (v, u) read offset (y - v + h - 1, x - u + w - 1)
    views = offsets.unfold(0, h, 1).unfold(1, w, 1).flip(3, 4)  # (h, w, heads, h, w)
    patches = views.permute(2, 0, 1, 3, 4).reshape(1, heads, h * w, h * w)
    if not class_token:
        return patches
    to_patch, to_class, itself = table[-CLASS_ROWS:, None, :, None, None]  # (1, heads, 1, 1)
    first_row = torch.cat([itself, to_patch.expand(-1, -1, 1, h * w)], dim=3)
    others = torch.cat([to_class.expand(-1, -1, h * w, 1), patches], dim=3)
    return torch.cat([first_row, others], dim=2)


def _cut(x: Tensor, grid: tuple[int, int], window: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut (B, h w, C) to (B windows, window^2, C), zero-padded, and count windows per side."""
    (h, w), (batch, _, channels) = grid, x.shape
    rows, columns = -(-h // window), -(-w // window)
    x = x.reshape(batch, h, w, channels)
    x = F.pad(x, (0, 0, 0, columns * window - w, 0, rows * window - h))
    x = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(-1, window * window, channels), (rows, columns)


def _join(x: Tensor, cut: tuple[int, int], grid: tuple[int, int], window: int) -> Tensor:
    """Invert _cut: (B windows, window^2, C) -> (B, h w, C)."""
    (rows, columns), (h, w) = cut, grid
    x = x.reshape(-1, rows, columns, window, window, x.shape[2]).transpose(2, 3)
    x = x.reshape(-1, rows * window, columns * window, x.shape[5])
    return x[:, :h, :w].flatten(1, 2)


def stored_grid(vit: Any) -> tuple[int, int]:
    """Return the patches (h, w) at which a plain ViT's position parameters are stored."""
    h, w = vit.patch_embed.grid_size
    return int(h), int(w)


def has_relative_position(encoder: Any) -> bool:
    """Return whether the encoder is a plain ViT with relative position tables, as BEiT."""
    blocks: Any = encoder.blocks if isinstance(encoder, PLAIN_VITS) else []
    return any(getattr(block.attn, TABLE, None) is not None for block in blocks)
