"""Soft-NMS (Bodla et al. 2017): the scores of overlapping boxes decay, none is cut.

A step takes the highest score and decays its class' overlapping boxes. Scores only fall, so the
first `topk` steps yield the `topk` best detections and the rest need not be looked at.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

METHODS = ("linear", "gaussian")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    topk: int,
) -> tuple[Tensor, Tensor]:
    """Return indices of the kept boxes by decreasing decayed score, and those scores.

    boxes (N, 4) in pixels, scores (N,), classes (N,). "linear" multiplies by 1 - IoU above
    `iou_threshold`, "gaussian" by exp(-IoU^2 / sigma) everywhere.
    Raises ValueError for another `method`.
    """
    if method not in METHODS:
        raise ValueError(f"soft-NMS method must be one of {METHODS}, got {method!r}")
    kept, values = best_first(
        boxes,
        scores,
        classes,
        method=method,
        iou_threshold=iou_threshold,
        sigma=sigma,
        steps=min(topk, len(scores)),
    )
    enough = values >= min_score  # they fall from step to step
    return kept[enough], values[enough]


def best_first(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Return the `steps` first indices and their decayed scores; the host reads nothing."""
    scores = scores.clone()
    kept = torch.zeros(steps, dtype=torch.long, device=boxes.device)
    values = torch.zeros(steps, dtype=scores.dtype, device=boxes.device)
    for step in range(steps):
        best = scores.argmax()[None]
        kept[step], values[step] = best[0], scores.index_select(0, best)[0]
        overlap = box_iou(boxes.index_select(0, best), boxes)[0]
        overlap = overlap * (classes == classes.index_select(0, best))
        if method == "gaussian":
            scores *= torch.exp(-(overlap**2) / sigma)
        else:
            scores *= torch.where(overlap > iou_threshold, 1 - overlap, torch.ones_like(overlap))
        scores.index_fill_(0, best, -1.0)
    return kept, values
