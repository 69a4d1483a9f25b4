"""Soft-NMS: by hand, and equal to running it to the end."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torchvision.ops import box_iou

from transfer.detection.soft_nms import best_first, soft_nms

OPTIONS = {"method": "linear", "iou_threshold": 0.3, "sigma": 0.5, "min_score": 0.001, "topk": 10}


def test_an_overlapping_score_decays_and_other_classes_stay() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    index, values = soft_nms(boxes, scores, torch.tensor([0, 0, 1]), **OPTIONS)
    assert index.tolist() == [0, 2, 1]
    assert values.tolist() == pytest.approx([0.9, 0.7, 0.8 * 0.5])
    index, values = soft_nms(
        boxes, scores, torch.tensor([0, 0, 1]), **{**OPTIONS, "method": "gaussian"}
    )
    assert values[2].item() == pytest.approx(0.8 * torch.exp(torch.tensor(-0.5)).item())


def test_the_best_of_many_are_those_of_the_whole_list() -> None:
    torch.manual_seed(0)
    corner = torch.rand(60, 2) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(60, 2) * 30], 1)
    scores, classes = torch.rand(60), torch.randint(0, 3, (60,))
    index, values = soft_nms(boxes, scores, classes, **{**OPTIONS, "topk": 7})
    expected = by_class(boxes, scores, classes)[:7]
    assert index.tolist() == [i for _, i in expected]
    assert values.tolist() == pytest.approx([v for v, _ in expected])


def by_class(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor
) -> list[tuple[float, int]]:
    """The textbook loop, one class after the other, to the end."""
    kept = []
    for c in classes.unique():
        left = [(float(scores[i]), int(i)) for i in (classes == c).nonzero()[:, 0]]
        while left:
            value, best = max(left)
            kept.append((value, best))
            overlap = box_iou(boxes[best : best + 1], boxes)[0]
            left = [
                (v * (1 - float(overlap[i]) if overlap[i] > 0.3 else 1.0), i)
                for v, i in left
                if i != best
            ]
    return sorted(kept, reverse=True)


def test_low_scores_and_unknown_methods() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    index, _ = soft_nms(boxes, torch.tensor([0.0001]), torch.tensor([0]), **OPTIONS)
    assert index.numel() == 0
    with pytest.raises(ValueError, match="linear"):
        soft_nms(boxes, torch.ones(1), torch.zeros(1), **{**OPTIONS, "method": "hard"})


def test_no_step_waits_for_the_device() -> None:
    """A host read of a CUDA tensor is an error under FakeTensorMode."""
    with FakeTensorMode():
        boxes, scores = torch.empty(30, 4, device="cuda"), torch.empty(30, device="cuda")
        classes = torch.empty(30, dtype=torch.long, device="cuda")
        with pytest.raises(DataDependentOutputException):
            scores.argmax().item()
        for method in ("linear", "gaussian"):
            kept, values = best_first(
                boxes, scores, classes, method=method, iou_threshold=0.5, sigma=0.5, steps=10
            )
            assert kept.shape == values.shape == (10,)
