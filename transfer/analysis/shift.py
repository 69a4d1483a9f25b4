"""How far each layer moved from one encoder to others, in its features and in its weights.

linear CKA          Kornblith et al. 2019, equation 4, between the outputs of a block on the same
                    images: 1 if one is a rotation and scaling of the other
relative distance   |after - before| / |before| over a block's weights as one vector, without the
                    running statistics of norms
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer.analysis.encoders import Analysed
from transfer.analysis.figures import curves_by_layer
from transfer.analysis.images import batches
from transfer.analysis.layers import blocks_of, look

POSITIONS = 64  # of an image, spread over its map


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Return the linear CKA of features (n, p) and (n, q) of the same n positions."""
    x, y = (f.double() - f.double().mean(0) for f in (x, y))
    shared = torch.linalg.matrix_norm(y.T @ x) ** 2
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    return float(shared / own) if float(own) > 0 else float("nan")


def block_features(encoder: Analysed, images: Tensor, batch: int = 8) -> dict[str, Tensor]:
    """Return the output of each block at some positions of all images, (n, C) by name."""
    found: dict[str, list[Tensor]] = {}

    def seen(name: str, maps: Tensor) -> None:
        step = max(1, maps.shape[1] // POSITIONS)
        found.setdefault(name, []).append(maps[:, step // 2 :: step].flatten(0, 1).clone())

    for part in batches(images, encoder.pixels, batch):
        look(encoder, part, seen, expansions=False)
    return {name: torch.cat(parts) for name, parts in found.items()}


def weight_distances(before: Analysed, after: Analysed) -> dict[str, float]:
    """Return the relative distance of each block's parameters, by name."""
    found = {}
    others = dict(after.features.encoder.named_parameters())
    for name, block in blocks_of(before.features.encoder).items():
        old = torch.cat([p.detach().flatten() for p in block.parameters()])
        new = torch.cat(
            [others[f"{name}.{n}"].detach().flatten() for n, _ in block.named_parameters()]
        )
        found[name] = float((new - old).norm() / old.norm())
    return found


def shift(encoders: Sequence[Analysed], images: Tensor, out: Path) -> dict[str, Any]:
    """Write OUT/shift.png: how far all encoders but the first are from the first, by layer.

    Raises ValueError for less than two encoders or another architecture.
    """
    if len(encoders) < 2:
        raise ValueError("shift compares the first encoder with others: give two or more")
    first, *others = encoders
    before = block_features(first, images)
    numbers: dict[str, Any] = {}
    for one in others:
        after = block_features(one, images)
        if {n: f.shape for n, f in after.items()} != {n: f.shape for n, f in before.items()}:
            raise ValueError(f"{one.label} is another architecture than {first.label}")
        moved = weight_distances(first, one)
        numbers[f"{first.label} -> {one.label}"] = [
            {"layer": name, "cka": linear_cka(before[name], after[name]), "distance": moved[name]}
            for name in before
        ]
    panels = {
        title: {label: [layer[key] for layer in layers] for label, layers in numbers.items()}
        for key, title in (
            ("cka", "linear CKA with the first encoder"),
            ("distance", "relative distance of the weights"),
        )
    }
    curves_by_layer(out / "shift.png", panels)
    return numbers
