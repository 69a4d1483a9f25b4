"""The segmentation benchmark times equal nets, and says what it lacks."""

import importlib.util

import pytest

pytest.importorskip("mmseg")
from tools.benchmarks.segmentation import largest_difference, segmentors

MMPRETRAIN = importlib.util.find_spec("mmpretrain")


def test_both_sides_are_the_same_net() -> None:
    ours, theirs = segmentors("resnet", 64)
    assert type(ours.backbone) is not type(theirs.backbone)
    assert largest_difference(ours, theirs, 64) < 1e-6


@pytest.mark.skipif(MMPRETRAIN is not None, reason="mmpretrain is installed")
def test_a_missing_mmpretrain_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="pip install onedl-mmpretrain model-index"):
        segmentors("convnext", 64)


@pytest.mark.skipif(MMPRETRAIN is None, reason="mmpretrain is not installed")
@pytest.mark.parametrize("arch", ["convnext", "convnextv2"])
def test_convnext_is_the_same_net(arch: str) -> None:
    ours, theirs = segmentors(arch, 64)
    assert largest_difference(ours, theirs, 64) < 1e-5
