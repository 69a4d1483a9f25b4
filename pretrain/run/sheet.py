"""Contact sheets: pictures in rows with white gaps between them."""

from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

GAP_PX = 4


def contact_sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return one picture of rows of pictures, from the left and the top; sizes may differ."""
    heights = [max(picture.height for picture in row) for row in rows]
    widths = [sum(p.width for p in row) + GAP_PX * (len(row) - 1) for row in rows]
    size = (max(widths), sum(heights) + GAP_PX * (len(rows) - 1))
    canvas = Image.new("RGB", size, "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for picture in row:
            canvas.paste(picture, (left, top))
            left += picture.width + GAP_PX
        top += height + GAP_PX
    return canvas


def sheet_of_columns(columns: Sequence[Tensor]) -> Image.Image:
    """Return the sheet of columns of images, each (B, 3, H, W) in [0, 1]."""
    pictures = [[to_picture(image) for image in column] for column in columns]
    return contact_sheet(list(zip(*pictures, strict=True)))


def to_picture(image: Tensor) -> Image.Image:
    """Convert (3, H, W) in [0, 1] to an image with 8 bits per channel."""
    return to_pil_image((image * 255).round().byte().cpu())


def spread(total: int, count: int) -> list[int]:
    """Return `count` numbers spread evenly over range(total); all of them if there are fewer."""
    count = min(count, total)
    return [round(i * (total - 1) / max(1, count - 1)) for i in range(count)]
