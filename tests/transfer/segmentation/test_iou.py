"""Counts of all processes without files between them, and predictions of every process on disk."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.transfer.segmentation.two_processes import in_two_processes
from transfer.segmentation.data import LabelledImages
from transfer.segmentation.iou import ExactIoU, save_prediction, score_folder

CLASSES = ("a", "b", "c")


def sample(index: int) -> dict:
    """A prediction and its truth, 6 x 6, that follow from `index`."""
    rng = np.random.default_rng(index)
    predicted, truth = (torch.from_numpy(rng.integers(0, 3, (1, 6, 6))) for _ in range(2))
    return {
        "pred_sem_seg": {"data": predicted},
        "gt_sem_seg": {"data": truth},
        "image_name": f"folder{index % 2}/{index // 2}",
        "reduce_zero_label": False,
    }


def evaluate(indices, size: int, folder: Path | None = None):
    metric = ExactIoU(output_dir=str(folder) if folder else None)
    metric.dataset_meta = {"classes": CLASSES}
    for index in indices:
        metric.process({}, [sample(index)])
    return metric.evaluate(size), metric.per_class


def share(rank: int, folder: Path) -> None:
    """Process 0 has images 0, 2, 4, process 1 has 1, 3; each has a disk of its own."""
    own = folder / f"disk{rank}"
    own.mkdir()
    os.chdir(own)
    figures = evaluate(range(rank, 5, 2), 5, own / "predictions")
    torch.save(figures, folder / f"{rank}.pt")


def test_two_processes_count_together_without_a_shared_folder(tmp_path):
    expected = evaluate(range(5), 5)
    in_two_processes(share, tmp_path)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == expected
        written = {path.name for path in (tmp_path / f"disk{rank}").iterdir()}
        assert written == {"predictions"}
    saved = [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.png"))]
    assert saved == [
        "disk0/predictions/folder0/0.png",
        "disk0/predictions/folder0/1.png",
        "disk0/predictions/folder0/2.png",
        "disk1/predictions/folder1/0.png",
        "disk1/predictions/folder1/1.png",
    ]


def test_an_image_that_counts_twice_is_an_error():
    with pytest.raises(ValueError, match="6 predictions for 5 images"):
        evaluate([0, 1, 2, 3, 4, 0], 5)


def test_an_evaluation_set_smaller_than_the_processes():
    metric = ExactIoU()
    metric.dataset_meta = {"classes": CLASSES}
    with pytest.raises(ValueError, match="nothing to evaluate"):
        metric.evaluate(0)


def test_equal_names_in_two_folders_are_two_predictions(tmp_path):
    for place in ("north", "south"):
        for kind in ("images", "labels"):
            (tmp_path / kind / place).mkdir(parents=True)
        values = np.full((4, 4), ("north", "south").index(place), np.uint8)
        for kind in ("images", "labels"):
            Image.fromarray(values).save(tmp_path / kind / place / "1.png")
    data = LabelledImages(str(tmp_path), "images", "labels", CLASSES, pipeline=[], test_mode=True)
    for index, value in ((0, 0), (1, 1)):
        info = data.get_data_info(index)
        save_prediction(torch.full((4, 4), value), info, tmp_path / "predictions")
    assert score_folder(tmp_path / "predictions", data)["mIoU"] == 100.0
    (tmp_path / "predictions/south/1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no prediction .*south/1\.png"):
        score_folder(tmp_path / "predictions", data)
