"""Accuracy: timm's own figures, by class, of every image once."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from timm.utils import accuracy
from torch import nn

from transfer.classification.config import FineTuning, Input, RunSettings
from transfer.classification.evaluate import evaluate, hits_of
from transfer.datasets.class_split import ClassSplit, open_split
from transfer.weights import IMAGENET

SMALL = FineTuning(
    images=Input(input_size=32), run=RunSettings(workers=0, test_batch_size=4, device="cpu")
)


def test_hits_are_timms_accuracy():
    draws = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 9, generator=draws), torch.arange(50) % 9
    hits = hits_of(logits, labels)
    shares = [100 * int(row.sum()) / 50 for row in hits[:2]]
    assert shares == pytest.approx([float(a) for a in accuracy(logits, labels, topk=(1, 5))])
    assert 0 < shares[0] < shares[1] < 100
    assert hits[2].tolist() == torch.bincount(labels).tolist()
    right = logits.argmax(1) == labels
    assert hits[0].tolist() == torch.bincount(labels[right], minlength=9).tolist()


class Knows(nn.Module):
    """Gives one class the largest logit, whatever the image."""

    def __init__(self, place: int, classes: int) -> None:
        super().__init__()
        self.logits = torch.eye(classes)[place]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_a_class_that_val_lacks_has_no_figure(tree):
    val = open_split(tree, "val")
    classes = (*val.classes, "d", "e", "f", "g")
    found = evaluate(
        Fabric(accelerator="cpu"),
        Knows(1, 7),
        ClassSplit(val.images, val.labels, classes),
        IMAGENET,
        SMALL,
    )
    assert found.metrics["top1"] == pytest.approx(100 / 3)
    assert set(found.metrics) == {"top1", "top5"}
    assert {name: row["top1"] for name, row in found.per_class.items()} == {
        "disc": 0.0,
        "square": 100.0,
        "stripes": 0.0,
    }


def test_an_image_that_cannot_be_read_stops_the_evaluation(tree, tmp_path):
    val = open_split(tree, "val")
    broken = val.images.subset(np.ones(len(val), bool))
    broken.root = tmp_path
    with pytest.raises(ValueError, match="cannot be read"):
        evaluate(
            Fabric(accelerator="cpu"),
            Knows(0, 3),
            ClassSplit(broken, val.labels, val.classes),
            IMAGENET,
            SMALL,
        )


def test_a_count_that_is_not_the_splits_is_an_error(tree, monkeypatch):
    val = open_split(tree, "val")
    monkeypatch.setattr(
        "transfer.classification.evaluate.count_hits",
        lambda *_: (torch.ones(3, 3, dtype=torch.int64), torch.zeros(2, len(val))),
    )
    with pytest.raises(RuntimeError, match="3 images were counted, of 15"):
        evaluate(Fabric(accelerator="cpu"), Knows(0, 3), val, IMAGENET, SMALL)
