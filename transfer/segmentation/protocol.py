"""What a segmentation run's number depends on: the protocols of its training and its evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from transfer.results.protocol import Protocols, image_list, origin, without
from transfer.segmentation.config import fill_in, protocol
from transfer.segmentation.data import folder_pair, pairs_of

# keys that evaluation alone reads, and keys that change no number or are told by others
MEASURED = (
    "test_mode",
    "stride",
    "views",
    "test_ratios",
    "test_resize",
    "tta",
    "test_cfg",
    "test_pipeline",
    "val_limit",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
    "meta_keys",
)
TOLD_ELSEWHERE = (
    "config",
    "budget",
    "accumulation",
    "accumulation_steps",
    "checkpointing",
    "grad_checkpointing",
    "classes",
    "model.test_cfg",
    "eval_steps",
)
IN_EVALUATION = ("classes", "meta_keys")


def protocols_of(
    cfg: Config, train: dict[str, Any], val: dict[str, Any], norm_images: int | None = None
) -> Protocols:
    """Return the protocols of an unfilled config on two image lists.

    `norm_images` is the number of images that a BatchNorm's statistics are taken from.
    """
    filled = fill_in(Config({**cfg, "data_root": cfg["data_root"] or "."}, filename=cfg.filename))
    lengths = {key: filled[key] for key in ("max_iters", "warmup_iters")}
    training = without(protocol(cfg), [*MEASURED, *TOLD_ELSEWHERE]) | lengths
    training |= {"data": train, "images_per_batch_norm": norm_images}
    mode = filled.get("evaluation_mode") or filled["test_mode"]
    window = {key: list(filled[key]) for key in ("crop_size", "stride")} if mode == "slide" else {}
    evaluation = {
        "tta": _views(filled),
        "mode": mode,
        **window,
        "pipeline": _plain(filled["evaluation_pipeline"]),
        "zero_is_ignored": filled["reduce_zero_label"],
        "data": val,
    }
    return Protocols(_plain(training), evaluation)


def protocols(cfg: Config, filled: Config, norm_images: int | None) -> Protocols:
    """Return the protocols of a run, on the images that it finds in its folders."""
    return protocols_of(cfg, *images(filled), norm_images)


def origin_of(
    cfg: Config, shipped: Config, filled: Config, norm_images: int | None
) -> dict[str, Any] | None:
    """Return the shipped config that the run was made from, and what it changed."""
    alone = protocols_of(shipped, *images(filled), norm_images)
    own = protocols_of(cfg, *images(filled), norm_images)
    return origin(Path(cfg.filename), alone, own, "segmentation")


def images(filled: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return count, digest and classes of the training and the evaluation images."""
    return _listed(filled, "train", None), _listed(filled, "val", filled["val_limit"])


def evaluation_protocol(cfg: Config, filled: Config) -> dict[str, Any]:
    """Return the protocol of an evaluation alone: the training's folders need not be there."""
    return protocols_of(cfg, {}, _listed(filled, "val", filled["val_limit"])).eval


def _listed(filled: Config, name: str, limit: int | None) -> dict[str, Any]:
    pair = folder_pair(filled, name)
    names = (image.relative_to(pair.images).as_posix() for image, _ in pairs_of(pair)[:limit])
    return image_list(names, filled["classes"])


def _views(filled: Config) -> dict[str, Any] | None:
    """Return how a multi-scale test looks at an image; None for one view."""
    if "tta" in filled:
        views = _plain(filled["tta"] or {})
        return {k: v for k, v in views.items() if k != "on"} if views.get("on") else None
    if filled["views"] == "single":
        return None
    return {"ratios": list(filled["test_ratios"]), "flip": True, "resize": filled["test_resize"]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
