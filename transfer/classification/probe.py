"""What frozen features tell about the classes: a linear probe and a k-NN, in minutes.

Layer and learning rate are chosen by training images that the probe does not learn from; the
validation images are looked at once.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.files.lineage import method_of, read_stages
from pretrain.run.folder import RECORD, RunFolder
from pretrain.run.processes import available_cores, launch
from pretrain.run.provenance import peak_memory_mib
from transfer.classification.evaluate import hits_of
from transfer.classification.frozen import Frozen, frozen_encoder, vectors
from transfer.classification.probe_config import Probing
from transfer.classification.protocol import EVALUATION, images_of
from transfer.datasets.class_split import ClassSplit, open_split
from transfer.results.protocol import protocol_hash
from transfer.results.record import (
    Cost,
    Dataset,
    Result,
    describe_environment,
    write_result,
)
from transfer.weights import transfer_arch_args

logger = logging.getLogger(__name__)

Vectors = dict[str, Tensor]  # layer -> (n, C)
SMALLEST_STD = 1e-6  # of a feature that is the same everywhere
QUERIES = 1024  # at once in the k-NN


@dataclass(frozen=True)
class Found:
    """Metrics in percent, and the layer and rate they come from."""

    metrics: dict[str, float]
    chosen: str


class Labelled(NamedTuple):
    """Vectors of images by layer (images, channels), and the images' classes (images,)."""

    vectors: Vectors
    labels: Tensor


def probe(weights: str, data: Path, out: Path, config: Probing) -> Result:
    """Probe the encoder of `weights` on the classes at `data`; the record ends in `out`.

    Raises ValueError for data, weights or a folder that does not fit.
    """
    started, folder = time.perf_counter(), RunFolder(out, RECORD)
    with folder.lock():
        folder.require_free(resume=False)
        device = launch(config.device, "fp32").device
        frozen = frozen_encoder(weights, config)
        train = open_split(data, "train", None, available_cores())
        val = open_split(data, "val", train.classes, available_cores())
        own, mean_std = standardised(vectors(frozen, train, config, device))
        theirs = applied(vectors(frozen, val, config, device), mean_std)
        logger.info("features of %d and %d images", len(train), len(val))
        learnt = Labelled(own, torch.from_numpy(train.labels))
        judged = Labelled(theirs, torch.from_numpy(val.labels))
        linear = linear_probe(learnt, judged, len(train.classes), config, device)
        nearest = k_nearest(learnt, judged, len(train.classes), config, device)
        hours = (time.perf_counter() - started) / 3600
        result = record(frozen, train, val, config, (linear, nearest), hours, device)
        folder.begin({"train": result.train, "eval": result.eval, "weights": result.sha256})
        write_result(result, out)
    return result


def standardised(features: Vectors) -> tuple[Vectors, Vectors]:
    """Return features with mean 0 and variance 1 over the images, and (mean, std) by layer.

    Masked pretraining leaves channels of uneven scale; MAE's linear probe has a BatchNorm for it.
    """
    mean_std = {
        layer: torch.stack([x.mean(0), x.std(0).clamp(min=SMALLEST_STD)])
        for layer, x in features.items()
    }
    return applied(features, mean_std), mean_std


def applied(features: Vectors, mean_std: Vectors) -> Vectors:
    """Return features less the mean, divided by the standard deviation."""
    return {layer: (x - mean_std[layer][0]) / mean_std[layer][1] for layer, x in features.items()}


def linear_probe(
    train: Labelled, val: Labelled, classes: int, config: Probing, device: torch.device
) -> Found:
    """Train a linear classifier for each layer and rate at once; held-out images choose one."""
    held, kept = held_out(len(train.labels), config)
    heads = nn.ModuleDict(
        {
            f"{layer} {i}": nn.Linear(x.shape[1], classes)
            for layer, x in train.vectors.items()
            for i in range(len(config.rates))
        }
    ).to(device)
    for name, parameter in heads.named_parameters():
        nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)
    fit(heads, some_of(train, kept), config, device)
    scores = {name: top(heads, name, some_of(train, held), device)[0] for name in heads}
    best = max(scores, key=lambda name: scores[name])
    top1, top5 = top(heads, best, val, device)
    metrics = {"linear_top1": top1} | ({"linear_top5": top5} if classes > 5 else {})
    layer, rate = best.split()
    return Found(metrics, f"linear: {layer}, learning rate {config.rates[int(rate)]:g}")


def some_of(images: Labelled, rows: Tensor) -> Labelled:
    """Return the images of these numbers."""
    vectors = {layer: x[rows] for layer, x in images.vectors.items()}
    return Labelled(vectors, images.labels[rows])


def held_out(count: int, config: Probing) -> tuple[Tensor, Tensor]:
    """Return the numbers of the images held out and of those learnt from.

    Raises ValueError if one of them would be empty.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))
    size = round(config.held_out * count)
    if not 0 < size < count:
        raise ValueError(f"held_out={config.held_out} of {count} training images leaves none")
    return order[:size], order[size:]


def fit(heads: nn.ModuleDict, train: Labelled, config: Probing, device: torch.device) -> None:
    """Train all heads by SGD with momentum, each with its own rate, cosine to 0."""
    labels = train.labels
    groups = [
        {"params": list(head.parameters()), "lr": config.rates[int(name.split()[1])]}
        for name, head in heads.items()
    ]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    steps_per_epoch = -(-len(labels) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, config.epochs * steps_per_epoch
    )
    draws = torch.Generator().manual_seed(config.seed)
    for _ in range(config.epochs):
        for rows in torch.randperm(len(labels), generator=draws).split(config.batch_size):
            target = labels[rows].to(device)
            inputs = {layer: x[rows].to(device) for layer, x in train.vectors.items()}
            losses = [F.cross_entropy(h(inputs[n.split()[0]]), target) for n, h in heads.items()]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def top(
    heads: nn.ModuleDict, name: str, images: Labelled, device: torch.device
) -> tuple[float, float]:
    """Return top-1 and top-5 accuracy of one head, in percent."""
    hits, count = torch.zeros(3, dtype=torch.int64), len(images.labels)
    vectors = images.vectors[name.split()[0]]
    for some, labels in zip(vectors.split(QUERIES), images.labels.split(QUERIES), strict=True):
        hits += hits_of(heads[name](some.to(device)).cpu(), labels).sum(dim=1)
    return 100 * int(hits[0]) / count, 100 * int(hits[1]) / count


def k_nearest(
    train: Labelled, val: Labelled, classes: int, config: Probing, device: torch.device
) -> Found:
    """Classify by the nearest training images, weighted as DINO does; held-out ones choose."""
    held, kept = held_out(len(train.labels), config)

    def accuracy(layer: str, known: Labelled, asked: Labelled) -> float:
        bank, labels = known.vectors[layer].to(device), known.labels.to(device)
        votes = knn_votes(bank, labels, asked.vectors[layer].to(device), classes, config)
        return 100 * int((votes.argmax(1) == asked.labels).sum()) / len(asked.labels)

    learnt, choosing = some_of(train, kept), some_of(train, held)
    scores = {layer: accuracy(layer, learnt, choosing) for layer in train.vectors}
    best = max(scores, key=lambda layer: scores[layer])
    top1 = accuracy(best, train, val)
    return Found({"knn_top1": top1}, f"k-NN: {best}")


@torch.no_grad()
def knn_votes(
    bank: Tensor, labels: Tensor, queries: Tensor, classes: int, config: Probing
) -> Tensor:
    """Return the votes of each query's neighbours, (queries, classes) on the CPU.

    A neighbour weighs exp(cosine similarity / temperature).
    """
    bank, votes = F.normalize(bank, dim=1), []
    for some in F.normalize(queries, dim=1).split(QUERIES):
        near = (some @ bank.T).topk(min(config.neighbours, len(bank)), dim=1)
        weights = (near.values / config.temperature).exp()
        empty = torch.zeros(len(some), classes, device=bank.device)
        votes.append(empty.scatter_add_(1, labels[near.indices], weights).cpu())
    return torch.cat(votes)


def record(
    frozen: Frozen,
    train: ClassSplit,
    val: ClassSplit,
    config: Probing,
    found: tuple[Found, ...],
    hours: float,
    device: torch.device,
) -> Result:
    """Return the probe's record: like a fine-tuning's, under the task "probe"."""
    protocol, evaluation = protocols(config, train, val)
    features, report = frozen.features, frozen.report
    stages = read_stages(report.identity["stages"] if report else [])
    return Result(
        task="probe",
        method=method_of(stages),
        stages=list(stages),
        backbone=features.arch,
        backbone_args=transfer_arch_args(features.arch, features.arch_args),
        weights=report.to_json() if report else None,
        dataset=Dataset(
            name=config.dataset,
            train_images=len(train),
            val_images=len(val),
            classes=list(train.classes),
        ),
        train=protocol,
        train_hash=protocol_hash(protocol),
        seed=config.seed,
        cost=Cost(hours=hours, peak_memory_mib=peak_memory_mib(device)),
        environment=describe_environment(device),
        notes=[part.chosen for part in found],
        eval=evaluation,
        eval_hash=protocol_hash(evaluation),
        metrics={name: value for part in found for name, value in part.metrics.items()},
        evaluator="counts of this suite",
    )


def protocols(
    config: Probing, train: ClassSplit, val: ClassSplit
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the probe's numbers depend on: its training, and its evaluation."""
    images = {key: getattr(config.images, key) for key in ("input_size", *EVALUATION)}
    settings = {
        key: getattr(config, key)
        for key in ("epochs", "batch_size", "held_out", "neighbours", "temperature")
    }
    lists = {"layers": list(config.layers), "rates": list(config.rates)}
    training = {"framework": "timm", "frozen": True, **settings, **lists, "images": images}
    return {**training, "data": images_of(train)}, {**images, "data": images_of(val)}
