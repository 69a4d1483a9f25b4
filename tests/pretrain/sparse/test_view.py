"""The index tables of the picture at the top of pretrain/sparse/view.py."""

import torch

from pretrain.sparse.view import PatchView

MASKED, OUTSIDE = 8, 9
MARGIN = ((1, 1), (1, 1))


def picture() -> PatchView:
    """One image with a 2 x 2 grid of patches; patches 1 and 2 are visible."""
    visible = torch.tensor([[[[False, True], [True, False]]]])
    return PatchView(visible, patch=2, count=2)


def test_patches_and_rows_are_numbered_as_drawn() -> None:
    view, m = picture(), MASKED
    assert view.patch_index.tolist() == [1, 2]
    assert view.patch_number.tolist() == [2, 0, 1, 2]
    assert view.row_of_cell(2)[0].tolist() == [
        [m, m, 0, 1],
        [m, m, 2, 3],
        [4, 5, m, m],
        [6, 7, m, m],
    ]


def test_windows_are_as_drawn() -> None:
    m, o = MASKED, OUTSIDE
    windows = picture().rows_of_window(2, *MARGIN)
    assert windows[0].tolist() == [[o, o, o, o], [m, 0, 1, o], [m, 2, 3, o], [5, m, m, o]]
    taps = picture().rows_of_taps(2, *MARGIN, (3, 3), 1)
    assert taps[0, 1, 0].tolist() == [m, 0, 1, m, 2, 3, 5, m, m]


def test_cells_are_as_drawn() -> None:
    view = picture()
    assert view.cell_of_row(2).tolist() == [2, 3, 6, 7, 8, 9, 12, 13]
    assert view.cell_of_row(2, MARGIN).tolist() == [9, 10, 15, 16, 19, 20, 25, 26]
    assert view.cells_of_taps(2)[0].tolist()[::8] == [7, 16]


def test_every_image_has_its_own_rows() -> None:
    visible = torch.tensor([[[[False, True]]], [[[True, False]]]])
    view = PatchView(visible, patch=2, count=1)
    assert view.patch_index.tolist() == [1, 2]
    assert view.cell_of_row(1, ((0, 0), (1, 0))).tolist() == [2, 4]
    assert view.row_of_cell(1).tolist() == [[[2, 0]], [[1, 2]]]
