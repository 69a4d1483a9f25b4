"""What a classifier's number depends on: the protocols of its training and its evaluation."""

from dataclasses import asdict
from functools import lru_cache
from typing import Any

from pretrain.run.batch_norm import images_per_statistic
from transfer.classification.config import FineTuning, load_config
from transfer.classification.prepare import Run
from transfer.datasets.class_split import ClassSplit
from transfer.results.protocol import Protocols, image_list, origin, without
from transfer.weights import PixelStats

# what a run is made of and where it lies, but not how: no part of the protocol
NOT_PROTOCOL = (
    "dataset",
    "weights",
    "weights_source",
    "fresh",
    "unused",
    "arch",
    "arch_args",
    "evaluate",
    "allow_findings",
    "run",
    "seed",
    "precision",
)
# settings of the images that only the evaluation uses
EVALUATION = ("crop_pct", "squash", "interpolation")


def protocols_of(
    config: FineTuning,
    precision: str,
    train: dict[str, Any],
    val: dict[str, Any],
    norm_images: int | None = None,
) -> Protocols:
    """Return the protocols of a config on two image lists.

    `norm_images` is the number of images that a BatchNorm's statistics are taken from.
    """
    settings = without(config.to_json(), NOT_PROTOCOL)
    training = without(settings, [f"images.{key}" for key in EVALUATION])
    training |= {
        "framework": "timm",
        "precision": precision,
        "data": train,
        "images_per_batch_norm": norm_images,
    }
    images = settings["images"]
    evaluation = {key: images[key] for key in ("input_size", *EVALUATION)}
    return Protocols(training, {**evaluation, "data": val})


def protocols(run: Run) -> Protocols:
    """Return the protocols of a prepared run."""
    return _protocols(run, run.config)


def _protocols(run: Run, config: FineTuning) -> Protocols:
    train = {} if run.train_split is None else images_of(run.train_split)
    val = {} if run.val_split is None else images_of(run.val_split)
    return protocols_of(config, run.precision, train, val, _norm_images(run))


def origin_of(run: Run) -> dict[str, Any] | None:
    """Return the shipped config that the run was made from, and what it changed."""
    if run.file is None:
        return None
    shipped = _protocols(run, load_config(run.file))
    return origin(run.file, shipped, protocols(run), "classification")


@lru_cache(maxsize=2)
def _listed(names: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, Any]:
    return image_list(names, classes)


def images_of(split: ClassSplit) -> dict[str, Any]:
    """Return count, digest and classes of a split's images with their labels."""
    return _listed(tuple(split.labelled_names()), split.classes)


def _norm_images(run: Run) -> int | None:
    if run.train_split is None:
        return None
    return images_per_statistic(run.built.model, run.share.batch, run.fabric.world_size)


def identity_of(run: Run) -> dict[str, Any]:
    """Return what the run is, as JSON values: a resumed run must have the same."""
    settings, built = protocols(run), run.built
    return {
        "train": settings.train,
        "eval": settings.eval,
        "weights": built.report.sha256 if built.report else "none",
        "arch": built.model.arch,
        "arch_args": built.model.arch_args,
        "pixels": pixels_to_json(built.pixels),
        "dataset": run.config.dataset,
        "seed": run.config.seed,
        "accumulation_steps": run.share.accumulation_steps,
    }


def pixels_to_json(pixels: PixelStats) -> dict[str, Any]:
    """Return pixel statistics as JSON values."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(pixels).items()}
