"""Contact sheets: where each picture lies, and the gaps."""

import numpy as np
import torch
from PIL import Image

from pretrain.run.sheet import GAP_PX, contact_sheet, sheet_of_columns, spread


def test_pictures_of_different_sizes_lie_from_the_left_and_the_top() -> None:
    red, green, blue = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    rows = [
        [Image.new("RGB", (10, 20), red), Image.new("RGB", (30, 8), green)],
        [Image.new("RGB", (5, 6), blue)],
    ]
    sheet = contact_sheet(rows)
    assert sheet.size == (10 + GAP_PX + 30, 20 + GAP_PX + 6)
    assert [sheet.getpixel(p) for p in ((9, 19), (14, 7), (0, 24))] == [red, green, blue]
    assert {sheet.getpixel(p) for p in ((10, 0), (14, 8), (0, 20), (5, 24))} == {(255, 255, 255)}


def test_columns_of_images_become_rows_of_pictures() -> None:
    columns = torch.rand(3, 2, 3, 4, 5)  # three columns of two images of 4 x 5 px
    pixels = np.asarray(sheet_of_columns(list(columns)))
    assert pixels.shape == (2 * 4 + GAP_PX, 3 * 5 + 2 * GAP_PX, 3)
    expected = (columns[2, 1] * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels[4 + GAP_PX :, 2 * (5 + GAP_PX) :], expected)
    assert (pixels[4 : 4 + GAP_PX] == 255).all()


def test_numbers_are_spread_over_a_range() -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(2, 4) == [0, 1]
    assert spread(5, 1) == [0]
