"""Every hostile file at both frameworks' doors: checkpoints to resume, evaluate or start from."""

import pytest

from tests.transfer.weights import cases_hostile as hostile


@pytest.mark.parametrize("kind", hostile.RUNNING)
def test_detection_checkpoints(kind, tmp_path):
    pytest.importorskip("transfer.detection")
    from transfer.detection.checkpoint import load

    path = tmp_path / ("model.pkl" if "pickle" in kind else "model.pth")
    hostile.RUNNING[kind][0](path)
    with pytest.raises(ValueError, match=r"model\."):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", hostile.RUNNING)
def test_mmengine_loaders(kind, tmp_path):
    pytest.importorskip("mmengine")
    from mmengine.runner import CheckpointLoader

    from transfer.segmentation.safe_files import read_tensors_only

    read_tensors_only()
    path = tmp_path / ("model.pkl" if "pickle" in kind else "model.pth")
    hostile.RUNNING[kind][0](path)
    with pytest.raises(ValueError, match=r"model\."):
        CheckpointLoader.load_checkpoint(str(path))
    assert not (tmp_path / "ran").exists()
