"""Pictures of a run: the right colours, for any run folder."""

import numpy as np
import pytest
from PIL import Image

from transfer.segmentation.pictures import colours, draw, draw_class_bars


def test_colours_by_hand():
    palette = [[1, 2, 3], [4, 5, 6]]
    assert colours(np.array([[0, 1, 255]], np.uint8), palette).tolist() == [
        [[1, 2, 3], [4, 5, 6], [0, 0, 0]]
    ]


def test_a_run_draws_itself_and_can_be_drawn_again(segment, tiny, tmp_path):
    segment(tiny, tmp_path)
    again = draw(tmp_path, tmp_path / "again.png", 4)
    with Image.open(tmp_path / "predictions.png") as first, Image.open(again) as second:
        assert first.size == second.size
        assert np.array_equal(np.asarray(first), np.asarray(second))
    with Image.open(draw_class_bars(tmp_path, tmp_path / "bars.png")) as bars:
        assert bars.width > 100


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training state"):
        draw(tmp_path, tmp_path / "x.png", 1)
