"""Feature collapse by layer: numbers, one plot of several encoders, and sheets of activations."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from pretrain.files.write import atomic_write
from pretrain.run.sheet import contact_sheet, spread, to_picture
from transfer.analysis.channels import ChannelStatistics, LayerNumbers
from transfer.analysis.encoders import Analysed
from transfer.analysis.figures import curves_by_layer
from transfer.analysis.images import batches, normalised
from transfer.analysis.layers import look

PANELS = {
    "cosine_distance": "mean cosine distance between channels",
    "effective_rank_share": "effective rank, share of channels",
    "dead": "dead channels, share",
    "saturated": "saturated channels, share",
}
SHOWN_LAYERS, SHOWN_CHANNELS, ROWS = 4, 64, 4  # of a sheet: 4 rows of 16 channels a layer
TILE_PX = 40


def layer_numbers(encoder: Analysed, images: Tensor, batch: int = 8) -> list[LayerNumbers]:
    """Return the statistics of every layer's expansion over images (n, 3, H, W) uint8."""
    found: dict[str, ChannelStatistics] = {}

    def seen(name: str, maps: Tensor) -> None:
        found.setdefault(name, ChannelStatistics(maps.shape[2])).add(maps)

    for part in batches(images, encoder.pixels, batch):
        look(encoder, part, seen, expansions=True)
    return [statistics.numbers(name) for name, statistics in found.items()]


def collapse(encoders: Sequence[Analysed], images: Tensor, out: Path) -> dict[str, Any]:
    """Write OUT/collapse.png and OUT/activations_LABEL.png; return the numbers by label."""
    numbers = {
        one.label: [layer.to_json() for layer in layer_numbers(one, images)] for one in encoders
    }
    panels = {
        title: {label: [float(layer[key]) for layer in layers] for label, layers in numbers.items()}
        for key, title in PANELS.items()
    }
    curves_by_layer(out / "collapse.png", panels)
    for one in encoders:
        sheet = activation_sheet(one, images[:1])
        path = out / f"activations_{one.label.replace(' ', '_')}.png"
        atomic_write(path, partial(sheet.save, format="png"))
    return numbers


def activation_sheet(encoder: Analysed, image: Tensor) -> Image.Image:
    """Draw channels of some layers on one image (1, 3, H, W) uint8, each layer on one scale."""
    maps: dict[str, Tensor] = {}
    look(encoder, normalised(image, encoder.pixels), maps.__setitem__, expansions=True)
    names = [list(maps)[i] for i in spread(len(maps), SHOWN_LAYERS)]
    rows = [[to_picture(image[0] / 255)]]
    for name in names:
        rows.append([_title(f"{name}: channels of {maps[name].shape[2]}")])
        rows += _tiles(maps[name][0])
    return contact_sheet(rows)


def _tiles(maps: Tensor) -> list[list[Image.Image]]:
    """Draw channels spread over maps (L, C) of a square image; black is the layer's lowest."""
    side = round(len(maps) ** 0.5)
    chosen = maps[:, spread(maps.shape[1], SHOWN_CHANNELS)].float()
    low, high = (float(torch.quantile(chosen, share)) for share in (0.01, 0.99))
    shares = ((chosen - low) / max(high - low, 1e-12)).clamp(0, 1)
    pictures = [_colored(one) for one in shares.T.reshape(-1, side, side)]
    wide = -(-len(pictures) // ROWS)
    return [pictures[i : i + wide] for i in range(0, len(pictures), wide)]


def _colored(shares: Tensor) -> Image.Image:
    colors = colormaps["magma"](shares.numpy())[..., :3] * 255
    picture = Image.fromarray(colors.astype(np.uint8))
    return picture.resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)


def _title(text: str) -> Image.Image:
    strip = Image.new("RGB", (TILE_PX * SHOWN_CHANNELS // ROWS, 16), "white")
    ImageDraw.Draw(strip).text((2, 2), text, fill="black")
    return strip
