"""Statistics of a layer's channels over images, batch by batch.

cosine distance   ConvNeXt V2's: the mean over pairs i, j of channels of (1 - cos(x_i, x_j))
                  / 2, x_i a channel's map of one image as a vector; the mean over images. Channels
                  that are zero on an image have no direction and are left out of its pairs
dead              share of channels whose largest value lies below 1 % of the layer's root mean
                  square, on all images
saturated         share of the others whose deviation, over positions and images, lies below 5 % of
                  their own root mean square: constant wherever one looks
effective rank    exp of the entropy of the singular values of the centred features, as shares (Roy
                  and Vetterli 2007)
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

DEAD, SATURATED = 0.01, 0.05


@dataclass(frozen=True)
class LayerNumbers:
    """What channels.py says of one layer; shares in [0, 1]."""

    layer: str
    channels: int
    cosine_distance: float
    dead: float
    saturated: float
    effective_rank: float

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, and the rank as a share of the channels."""
        return {**asdict(self), "effective_rank_share": self.effective_rank / self.channels}


class ChannelStatistics:
    """Sums over batches of maps (B, L, C) of one layer."""

    def __init__(self, channels: int) -> None:
        self.images = self.positions = 0
        self.distance = 0.0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)
        self.largest = torch.zeros(channels)

    def add(self, maps: Tensor) -> None:
        """Count maps (B, L, C)."""
        maps = maps.float()
        self.images += len(maps)
        self.positions += maps.shape[0] * maps.shape[1]
        self.distance += float(cosine_distances(maps).sum())
        rows = maps.flatten(0, 1)
        self.total += rows.sum(0)
        self.products += rows.T @ rows
        self.largest = torch.maximum(self.largest, rows.abs().amax(0))

    def numbers(self, layer: str) -> LayerNumbers:
        """Return the statistics of everything counted."""
        mean = self.total / self.positions
        squares = self.products.diagonal() / self.positions
        deviation = (squares - mean.square()).clamp(min=0).sqrt()
        dead = self.largest <= DEAD * float(squares.mean().sqrt())
        saturated = ~dead & (deviation <= SATURATED * squares.sqrt())
        covariance = self.products / self.positions - torch.outer(mean, mean)
        return LayerNumbers(
            layer=layer,
            channels=len(mean),
            cosine_distance=self.distance / self.images,
            dead=float(dead.double().mean()),
            saturated=float(saturated.double().mean()),
            effective_rank=effective_rank(covariance),
        )


def cosine_distances(maps: Tensor) -> Tensor:
    """Return the mean distance between the channels of each image (B, L, C), (B,).

    The sum of all cosines is the squared length of the sum of all directions.
    """
    norms = torch.linalg.vector_norm(maps, dim=1, keepdim=True)  # (B, 1, C)
    directions = torch.where(norms > 0, maps / norms, 0)
    alive = (norms > 0).sum(2).squeeze(1).clamp(min=1)
    cosines = directions.sum(2).square().sum(1) / alive.square()
    return (1 - cosines) / 2


def effective_rank(covariance: Tensor) -> float:
    """Return exp(entropy) of the singular values behind a covariance (C, C); 0 for none."""
    singular = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    if float(singular.sum()) == 0:
        return 0.0
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp())
