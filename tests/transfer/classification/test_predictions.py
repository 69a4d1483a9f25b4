"""What was predicted of every image: confusions, surest mistakes, the file, the picture."""

import dataclasses

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import nn

from transfer.classification import pictures
from transfer.classification.config import FineTuning, Input, RunSettings
from transfer.classification.evaluate import evaluate
from transfer.classification.predictions import (
    NAME,
    Confused,
    Predictions,
    most_confused,
    read_predictions,
    write_predictions,
)
from transfer.datasets.class_split import ClassSplit, open_split
from transfer.weights import IMAGENET

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
FOUND = Predictions(
    torch.tensor([0, 1, 1, 1, 2, 0]), torch.tensor([0.99, 0.4, 0.8, 0.7, 0.6, 0.95])
)


def test_the_surest_mistakes_come_first_and_right_images_never():
    assert FOUND.wrong(LABELS).tolist() == [5, 2, 4, 1]
    assert FOUND.wrong(FOUND.classes).tolist() == []


def test_confusions_are_counted_by_true_and_predicted_class():
    counts = FOUND.confusion(LABELS, 3)
    assert counts.tolist() == [[1, 2, 0], [0, 1, 1], [1, 0, 0]]
    assert most_confused(counts, 2) == [Confused(0, 1, 2, 3), Confused(1, 2, 1, 2)]
    assert len(most_confused(counts, 9)) == 3  # pairs that never happened are left out


class Brightness(nn.Module):
    """Logits from the mean of the image: another prediction for each."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean, 0.3 * torch.ones_like(mean)], dim=1)


def test_an_evaluation_keeps_what_was_said_of_each_image_in_order(tree):
    val = open_split(tree, "val")
    settings = FineTuning(
        images=Input(input_size=32), run=RunSettings(workers=0, test_batch_size=4, device="cpu")
    )
    found = evaluate(Fabric(accelerator="cpu"), Brightness(), val, IMAGENET, settings)
    said = found.predictions
    right = (said.classes == torch.from_numpy(val.labels)).float().mean()
    assert found.metrics["top1"] == pytest.approx(100 * float(right))
    assert len(set(said.confidences.tolist())) > 5
    assert float(said.confidences.min()) >= 1 / 3
    last = ClassSplit(val.images.subset(np.arange(len(val)) == 7), val.labels[7:8], val.classes)
    alone = evaluate(Fabric(accelerator="cpu"), Brightness(), last, IMAGENET, settings)
    assert said.confidences[7] == pytest.approx(float(alone.predictions.confidences[0]), rel=1e-5)


def test_predictions_are_read_for_the_images_they_were_made_on_alone(tree, tmp_path):
    val = open_split(tree, "val")
    made = Predictions(torch.from_numpy(val.labels), torch.ones(len(val)))
    write_predictions(tmp_path, made, val)
    again = read_predictions(tmp_path / NAME, val)
    assert torch.equal(again.classes, made.classes)
    with pytest.raises(ValueError, match="give the data that the run evaluated on"):
        read_predictions(tmp_path / NAME, open_split(tree, "train"))


@pytest.mark.parametrize("classes", [3, 40])
def test_the_picture_shows_any_names_of_classes(tree, tmp_path, classes, monkeypatch):
    """A name is text, not mathematics; many classes have pairs in the place of a matrix."""
    monkeypatch.setattr(pictures, "DPI", 30)
    val = open_split(tree, "val")
    names = tuple(f"<b>${i}^{{$ {'long ' * i}" for i in range(classes))
    split = dataclasses.replace(val, classes=names)
    found = Predictions(torch.from_numpy(val.labels).roll(3), torch.linspace(0.1, 1, len(val)))
    with Image.open(pictures.draw(split, found, tmp_path / "deep" / "p.png", 4)) as picture:
        assert len(picture.convert("L").getcolors()) > 50
    nothing = Predictions(torch.from_numpy(val.labels), found.confidences)
    assert pictures.draw(split, nothing, tmp_path / "right.png").is_file()


def test_long_names_keep_both_ends():
    assert pictures.short("a  b\nc") == "a b c"
    long = pictures.short("fluorescence of 256 pixels, round")
    assert len(long) <= pictures.LABEL
    assert (long[:5], long[-5:]) == ("fluor", "round")
