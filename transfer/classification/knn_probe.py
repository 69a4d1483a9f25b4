"""The quickest look at an encoder file: a k-NN on its last map, without a record."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pretrain.run.processes import available_cores
from transfer.classification.config import Input
from transfer.classification.frozen import frozen_encoder, vectors
from transfer.classification.probe import applied, knn_votes, standardised
from transfer.classification.probe_config import Probing
from transfer.datasets.class_split import open_split

LAYER = "res5"  # the last map of a stage, or block, of every encoder
METRIC = "knn_top1"


def knn_probe(
    data: Path, image_size: int, device: Any, workers: Any
) -> Callable[[Path], dict[str, float]]:
    """Return a function from an encoder file to {"knn_top1": percent} on the images at `data`.

    It votes as tools/probe.py does, on the last layer alone. Raises ValueError or FileNotFoundError
    for data that cannot be used; the function raises them for a file or an image that cannot.
    """
    config = Probing(
        layers=(LAYER,), images=Input(input_size=image_size), device=device, workers=workers
    )
    train = open_split(data, "train", None, available_cores())
    val = open_split(data, "val", train.classes, available_cores())
    labels, targets = torch.from_numpy(train.labels), torch.from_numpy(val.labels)

    def measure(encoder: Path) -> dict[str, float]:
        place = torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
        frozen = frozen_encoder(str(encoder), config)
        own, mean_std = standardised(vectors(frozen, train, config, place))
        theirs = applied(vectors(frozen, val, config, place), mean_std)
        bank, queries = own[LAYER].to(place), theirs[LAYER].to(place)
        votes = knn_votes(bank, labels.to(place), queries, len(train.classes), config)
        return {METRIC: 100 * float((votes.argmax(1) == targets).float().mean())}

    return measure
