"""Resized position parameters: official values, exact properties, not linear interpolation."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.interpolate import RectBivariateSpline

from transfer.features.plain_vit import relative_bias
from transfer.features.position import (
    CLASS_ROWS,
    resize_position_embedding,
    resize_relative_position,
    spline_matrix,
    square_window,
)

CASE = load_file(
    Path(__file__).parents[2] / "golden/beit_relative_position_resize/case.safetensors"
)
RESIZED = [name for name in CASE if name.startswith("resized:")]


def _windows(name: str) -> tuple[str, int, int]:
    table, side = name.removeprefix("resized:").split("_to_")
    return f"table:{table}", int(table[1:]), (int(side) + 1) // 2


@pytest.mark.parametrize("name", RESIZED)
def test_equals_the_official_code(name):
    table, old, new = _windows(name)
    resized = resize_relative_position(CASE[table], old, new)
    torch.testing.assert_close(resized, CASE[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RESIZED)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_is_not_image_interpolation(name, mode):
    table, old, new = _windows(name)
    sides = (2 * old - 1, 2 * new - 1)
    image = CASE[table][:-CLASS_ROWS].T.reshape(1, -1, sides[0], sides[0])
    image = F.interpolate(image, size=(sides[1], sides[1]), mode=mode, align_corners=False)
    other = image.flatten(2)[0].T
    assert (other - CASE[name][:-CLASS_ROWS]).abs().max() > 0.02


def test_a_rectangle_is_the_spline_on_both_axes():
    table = torch.randn(27 * 27 + CLASS_ROWS, 2)
    resized = resize_relative_position(table, 14, (20, 33))
    assert resized.shape == (39 * 65 + CLASS_ROWS, 2)
    assert torch.equal(resized[-CLASS_ROWS:], table[-CLASS_ROWS:])
    square = {n: resize_relative_position(table, 14, n)[:-CLASS_ROWS] for n in (20, 33)}
    inner = resized[:-CLASS_ROWS].reshape(39, 65, 2)
    # along the middle row and column the other axis sits on a knot
    torch.testing.assert_close(inner[19], square[33].reshape(65, 65, 2)[32])
    torch.testing.assert_close(inner[:, 32], square[20].reshape(39, 39, 2)[:, 19])


def test_matrices_are_the_bivariate_spline():
    values = torch.randn(13, 13, dtype=torch.float64)
    rows, columns = spline_matrix(7, 9), spline_matrix(7, 16)
    ours = rows @ values.numpy() @ columns.T
    axes = [_knots(7, 9), _knots(7, 16)]
    spline = RectBivariateSpline(*axes, values.numpy(), kx=3, ky=3, s=0)
    import numpy as np

    theirs = spline(
        np.clip(np.arange(-8, 9), axes[0][0], axes[0][-1]),
        np.clip(np.arange(-15, 16), axes[1][0], axes[1][-1]),
    )
    assert abs(ours - theirs).max() < 1e-10


def _knots(old: int, new: int):
    """Where a linear function of the offset is reproduced, read back from its spline."""
    from transfer.features.position import _geometric_grid

    return _geometric_grid(2 * old - 1, 2 * new - 1)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 14])
def test_equal_size_is_the_same_tensor(window):
    table = torch.randn((2 * window - 1) ** 2 + CLASS_ROWS, 3)
    assert resize_relative_position(table, window, window) is table
    assert square_window(table.shape[0]) == window


@pytest.mark.parametrize(("old", "new"), [(1, 4), (2, 5), (3, 2), (4, 1), (14, 7), (7, 14)])
def test_constants_stay_constant(old, new):
    table = torch.full(((2 * old - 1) ** 2 + CLASS_ROWS, 2), 0.7)
    resized = resize_relative_position(table, old, (new, new + 1))
    torch.testing.assert_close(resized, torch.full_like(resized, 0.7))


def test_is_differentiable():
    table = torch.randn(7 * 7 + CLASS_ROWS, 1, dtype=torch.float64, requires_grad=True)
    resize_relative_position(table, 4, (6, 5)).sum().backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad.sum().item(), 11.0 * 9 + CLASS_ROWS, rtol=1e-5, atol=1e-5)


def test_wrong_window_is_an_error():
    with pytest.raises(ValueError, match="732 rows"):
        resize_relative_position(torch.zeros(172, 2), 14, 7)
    with pytest.raises(ValueError, match="197 rows"):
        resize_position_embedding(torch.zeros(1, 196, 4), (14, 14), (7, 7), 1)


def test_position_embedding_is_bicubic_and_keeps_the_class_token():
    embedding = torch.randn(1, 1 + 14 * 14, 8)
    resized = resize_position_embedding(embedding, (14, 14), (20, 9), 1)
    grid = embedding[:, 1:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, size=(20, 9), mode="bicubic", align_corners=False)
    assert torch.equal(resized[:, :1], embedding[:, :1])
    assert torch.equal(resized[:, 1:], wanted.flatten(2).transpose(1, 2))


def test_bias_reads_the_table_as_timm_does():
    from timm.models.beit import gen_relative_position_index

    h, w = 3, 5
    table = torch.randn((2 * h - 1) * (2 * w - 1) + CLASS_ROWS, 2)
    index = gen_relative_position_index((h, w))
    wanted = table[index].permute(2, 0, 1)[None]
    assert torch.equal(relative_bias(table, (h, w), (h, w), class_token=True), wanted)
    without = relative_bias(table, (h, w), (h, w), class_token=False)
    assert torch.equal(without, wanted[:, :, 1:, 1:])
