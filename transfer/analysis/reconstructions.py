"""What the methods behind encoders reconstruct: one sheet and the loss on the images of each.

The decoder is no part of an encoder file: it is read from the training state beside it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pretrain.data.sources import open_images
from pretrain.files.write import atomic_write
from pretrain.pictures import method_of_run, picture_batch
from pretrain.pictures import reconstructions as draw
from pretrain.run.sheet import spread

SHOWN = 8  # images of a sheet


def reconstructions(texts: Sequence[str], data: Path, count: int, out: Path) -> dict[str, Any]:
    """Write OUT/reconstructions_LABEL.png of each; return the mean loss on `count` images.

    `texts` are encoder files of tools/pretrain.py or its output folders, [LABEL=]PATH. Raises
    FileNotFoundError for what is no output folder.
    """
    images = open_images(data)
    numbers: dict[str, Any] = {}
    for text in texts:
        label, run = _run_of(text)
        method, recipe = method_of_run(run)
        method.eval()
        shown = picture_batch(images, spread(len(images), SHOWN), recipe, method)
        sheet = draw(method, shown, recipe)
        path = out / f"reconstructions_{label}.png"
        atomic_write(path, partial(sheet.save, format="png"))
        numbers[label] = {
            "method": type(method).__name__,
            "loss": _mean_loss(method, recipe, images, spread(len(images), count)),
            "images": min(count, len(images)),
        }
    return numbers


def _run_of(text: str) -> tuple[str, Path]:
    label, equals, path = text.rpartition("=")
    run = Path(path) if Path(path).is_dir() else Path(path).parent
    return (label if equals else run.name), run


@torch.no_grad()
def _mean_loss(method: Any, recipe: Any, images: Any, numbers: list[int], batch: int = 8) -> float:
    total = 0.0
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        inputs = picture_batch(images, part, recipe, method).inputs(
            torch.device("cpu"), recipe.augmentation
        )
        total += float(method(*inputs)) * len(part)
    return total / len(numbers)
