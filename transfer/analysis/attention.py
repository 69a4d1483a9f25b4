"""Where a ViT's heads look: from chosen points (BEiT, section 3.4), and how far by layer.

Every call of PyTorch's attention is caught, and its softmax, which the fused kernel does not
return, is computed beside it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pretrain.files.write import atomic_write
from pretrain.run.sheet import contact_sheet, to_picture
from transfer.analysis.encoders import Analysed
from transfer.analysis.figures import curves_by_layer
from transfer.analysis.images import normalised

Point = tuple[float, float]  # y, x as shares of the sides
POINTS: tuple[Point, ...] = ((0.3, 0.3), (0.3, 0.7), (0.7, 0.3), (0.7, 0.7))
DOT_PX = 4


class CaughtAttention(TorchFunctionMode):
    """Keeps the softmax (B, heads, N, N) of every attention that is computed within it."""

    def __init__(self) -> None:
        super().__init__()
        self.caught: list[Tensor] = []

    def __torch_function__(
        self, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute what was asked for, and the softmax if that was an attention."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.caught.append(softmax_of(args[0], args[1], kwargs.get("attn_mask")))
        return function(*args, **kwargs)


def softmax_of(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(q k / sqrt(d) + bias) of (B, heads, N, d)."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1)


def attention_maps(encoder: Analysed, images: Tensor) -> list[Tensor]:
    """Return each layer's attention between patches, (B, heads, L, L), of images uint8.

    Rows sum to what they give to patches; the class token's share is left out. Raises ValueError
    for an encoder without attention over the whole image.
    """
    prefix = int(getattr(encoder.features.encoder, "num_prefix_tokens", 0))
    with torch.no_grad(), CaughtAttention() as mode:
        encoder.features(normalised(images, encoder.pixels))
    found = [maps[..., prefix:, prefix:] for maps in mode.caught]
    if not found or any(len(maps) != len(images) for maps in found):
        raise ValueError(
            f"{encoder.label}: {encoder.features.arch} has no attention over whole images"
        )
    return found


def distances(attention: Tensor, patch_px: float) -> Tensor:
    """Return how far each head looks in pixels, (heads,): the mean distance by attention."""
    side = round(attention.shape[-1] ** 0.5)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack((y, x), -1).view(-1, 2).float() * patch_px
    weights = attention / attention.sum(-1, keepdim=True)
    return (weights * torch.cdist(places, places)).sum(-1).mean((0, 2))


def attention(
    encoders: Sequence[Analysed], images: Tensor, out: Path, points: Sequence[Point] = POINTS
) -> dict[str, Any]:
    """Write OUT/attention_LABEL.png and OUT/attention_distance.png; return the distances."""
    numbers: dict[str, Any] = {}
    for one in encoders:
        found = attention_maps(one, images)
        size = images.shape[-1]
        numbers[one.label] = [
            {"layer": i + 1, "distance_px": distances(maps, size / _side(maps)).tolist()}
            for i, maps in enumerate(found)
        ]
        sheet = attention_sheet(images, found[-1].mean(1), points)
        path = out / f"attention_{one.label.replace(' ', '_')}.png"
        atomic_write(path, partial(sheet.save, format="png"))
    means = {
        label: [sum(layer["distance_px"]) / len(layer["distance_px"]) for layer in layers]
        for label, layers in numbers.items()
    }
    curves_by_layer(
        out / "attention_distance.png", {"mean distance of attention, pixels of the image": means}
    )
    return numbers


def _side(maps: Tensor) -> int:
    return round(maps.shape[-1] ** 0.5)


def attention_sheet(images: Tensor, maps: Tensor, points: Sequence[Point]) -> Image.Image:
    """Draw a row an image: with its points, then what each of them attends to.

    images (B, 3, H, W) uint8; maps (B, L, L), each row scaled to its largest value.
    """
    rows = []
    for image, attended in zip(images, maps, strict=True):
        pictures = [_with_points(image, points)]
        pictures += [_attended(image, attended, point) for point in points]
        rows.append(pictures)
    return contact_sheet(rows)


def _with_points(image: Tensor, points: Sequence[Point]) -> Image.Image:
    picture = to_picture(image / 255)
    for point in points:
        _mark(picture, point)
    return picture


def _attended(image: Tensor, attended: Tensor, point: Point) -> Image.Image:
    """Blend the image with the attention (L, L) of the patch at `point`."""
    side, size = round(len(attended) ** 0.5), image.shape[-1]
    row, column = (min(int(share * side), side - 1) for share in point)
    heat = attended[row * side + column].view(1, 1, side, side)
    heat = F.interpolate(heat / heat.max(), (size, size), mode="bicubic").clamp(0, 1)[0, 0]
    color = torch.from_numpy(colormaps["inferno"](heat.numpy())[..., :3]).permute(2, 0, 1)
    picture = to_picture(0.35 * image / 255 + 0.65 * color.float())
    _mark(picture, point)
    return picture


def _mark(picture: Image.Image, point: Point) -> None:
    y, x = point[0] * picture.height, point[1] * picture.width
    box = (x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX)
    ImageDraw.Draw(picture).ellipse(box, fill="white", outline="black")
