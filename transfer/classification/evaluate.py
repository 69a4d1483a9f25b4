"""Top-1 and top-5 accuracy, every image counted once whatever the number of processes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain.run.processes import data_workers
from transfer.classification.config import FineTuning
from transfer.classification.data import (
    Batch,
    EvaluationSamples,
    evaluation_loader,
    evaluation_transform,
)
from transfer.classification.predictions import Predictions
from transfer.datasets.class_split import ClassSplit
from transfer.weights import PixelStats

TOP = (1, 5)


@dataclass(frozen=True)
class Accuracy:
    """Shares of images in percent whose class is among the first k, and the same by class.

    Five or fewer classes have no top5.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images_per_second: float
    predictions: Predictions


def evaluate(
    fabric: Fabric, model: nn.Module, split: ClassSplit, pixels: PixelStats, config: FineTuning
) -> Accuracy:
    """Evaluate in float32 on all processes; the model is in evaluation mode afterwards.

    Raises ValueError for an image that cannot be read, RuntimeError if the processes together
    counted other images than the split has.
    """
    started = time.perf_counter()
    run, device = config.run, fabric.device
    samples = EvaluationSamples(split, evaluation_transform(config.images, pixels))
    loader = evaluation_loader(
        samples,
        run.test_batch_size,
        fabric.world_size,
        fabric.global_rank,
        data_workers(run.workers, device),
        device.type == "cuda",
    )
    hits, own = count_hits(model, loader, len(split.classes), device)
    said = own.new_zeros(2, len(split))
    said[:, fabric.global_rank :: fabric.world_size] = own
    if fabric.world_size > 1:
        torch.distributed.all_reduce(hits)
        torch.distributed.all_reduce(said)
    hits, counts = (
        hits.cpu(),
        torch.bincount(torch.from_numpy(split.labels), minlength=len(split.classes)),
    )
    if not torch.equal(hits[-1], counts):
        raise RuntimeError(f"{int(hits[-1].sum())} images were counted, of {len(split)}")
    return accuracy_of(hits, said.cpu(), split.classes, time.perf_counter() - started)


@torch.no_grad()
def count_hits(
    model: nn.Module, batches: Iterable[Batch], classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return counts and predictions of this process.

    Counts are (3, classes) int64: hits among the first 1 and 5, and images. Predictions are (2, n)
    float64: the class of the largest logit of each image, and its softmax.
    """
    model.eval()
    hits = torch.zeros(len(TOP) + 1, classes, dtype=torch.int64, device=device)
    said = [torch.zeros(2, 0, dtype=torch.float64, device=device)]
    for batch in batches:
        labels = batch.labels.to(device, non_blocking=True)
        logits = model(batch.images.to(device, non_blocking=True))
        hits += hits_of(logits, labels)
        confidences, classes_said = logits.double().softmax(dim=1).max(dim=1)
        said.append(torch.stack([classes_said.double(), confidences]))
    return hits, torch.cat(said, dim=1)


def accuracy_of(hits: Tensor, said: Tensor, classes: Sequence[str], seconds: float) -> Accuracy:
    """Return the figures of what `count_hits` returned, on the CPU, that took `seconds`."""
    counts, total = hits[-1].tolist(), int(hits[-1].sum())
    rows = {f"top{k}": hits[i].tolist() for i, k in enumerate(TOP) if k == 1 or k < len(counts)}
    return Accuracy(
        {name: 100 * sum(row) / total for name, row in rows.items()},
        {
            label: {name: 100 * row[c] / counts[c] for name, row in rows.items()}
            for c, label in enumerate(classes)
            if counts[c]
        },
        total / seconds,
        Predictions(said[0].long(), said[1].float()),
    )


def hits_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Count by class: logits (B, classes), labels (B,) -> (3, classes) as `count_hits`."""
    classes = logits.shape[1]
    first = logits.topk(min(max(TOP), classes), dim=1).indices == labels[:, None]
    rows = [labels[first[:, :k].any(dim=1)] for k in TOP]
    return torch.stack([torch.bincount(row, minlength=classes) for row in (*rows, labels)])
