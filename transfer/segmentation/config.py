"""A config: MMEngine's files with `_base_`, and values at the top that reach everywhere.

MMEngine copies values when a file is read, so that changing a number at the top of a config on the
command line would not change where it is used. Here a text "${name}" stands for the top-level key
`name`, and is filled in after the command line's options.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from pretrain.run.options import coerce_like, did_you_mean, find_shipped, parse_key_value
from transfer.segmentation.data import class_names
from transfer.segmentation.settings import SegmentationSettings, check_settings, refuse_renamed

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = ROOT / "configs" / "segmentation"

# Settings that change no figure by their meaning (how a run is called, where it lies, how it is
# watched, and how its batch is computed), and those in which the runs of one protocol differ.
NOT_PROTOCOL = (
    "weights",
    "arch",
    "arch_args",
    "fresh",
    "unused",
    "seed",
    "dataset",
    "allow_findings",
    "data_root",
    "train_images",
    "train_labels",
    "val_images",
    "val_labels",
    "image_suffix",
    "label_suffix",
    "workers",
    "accumulation_steps",
    "grad_checkpointing",
    "log_steps",
    "checkpoint_steps",
    "eval_steps",
    "default_scope",
    "save_predictions",
    "tensorboard",
    "budget",  # the lengths that it stands for are counted
)


def load_config(path: Path | str, options: Sequence[str] = ()) -> Config:
    """Return the config in a Python file with `key=value` options applied, not yet filled in.

    A shipped config may be given by its name. FileNotFoundError names those nearest to a path that
    does not exist; ValueError for a file that is not (sound) Python or not a config of
    MMSegmentation, an unknown key and a key's former name.
    """
    path = find_shipped(path, CONFIGS)
    try:
        with python_files_only():
            cfg = Config.fromfile(str(path))
    except (SyntaxError, KeyError, NameError, RuntimeError) as error:  # the last: of LazyConfig
        told = str(error) or "it is not one of MMSegmentation's"
        raise ValueError(f"{path} cannot be read as a config: {told}") from error
    refuse_renamed(cfg)
    refuse_misspelt(cfg, path)
    for option in options:
        apply_option(cfg, option)
    return cfg


def refuse_misspelt(cfg: Config, path: Path) -> None:
    """Raise ValueError for a top-level key that is nearly one of ours; variables may be added."""
    known = SegmentationSettings.model_fields
    for key in set(cfg.keys()) - set(known):
        near = get_close_matches(key, known, n=1, cutoff=0.85)
        if near and near[0] not in key:
            raise ValueError(f"{path}: nothing reads {key!r}; did you mean {near[0]!r}?")


@contextmanager
def python_files_only() -> Iterator[None]:
    """Make MMEngine refuse a config or `_base_` that is not Python: its YAML reader runs code."""
    read = Config._file2dict

    def read_python(filename: str, *args: Any, **kwargs: Any) -> Any:
        if Path(filename).suffix != ".py":
            raise ValueError(
                f"{filename}: a config is a Python file (.py); other formats are not read, since "
                "reading YAML can run code. Write its settings as `lr = 1e-4` below "
                '`_base_ = ["custom.py"]` in a file in configs/segmentation, or give them with '
                "--cfg-options"
            )
        return read(filename, *args, **kwargs)

    Config._file2dict = staticmethod(read_python)
    try:
        yield
    finally:
        Config._file2dict = staticmethod(read)


def fill_in(cfg: Config, world_size: int = 1) -> Config:
    """Return a copy in which every "${name}" is its value, ready for MMEngine's Runner.

    Besides the config's own keys there are num_classes, palette, clip_grad, pin_memory,
    evaluation_pipeline, evaluation_mode, forward_passes, warmup_passes and evaluation_passes
    (steps * accumulation_steps), and device_batch, the images of one forward pass of one process:
    batch_size = device_batch * world_size * accumulation_steps. ValueError for a setting that has
    no meaning.
    """
    values = {key: cfg[key] for key in cfg}
    lacking = [name for name in ("model", "data_root", "classes") if name not in values]
    if lacking:
        raise ValueError(
            f"{cfg.filename} lacks {', '.join(lacking)}: build on custom.py or another config of "
            'configs/segmentation, _base_ = ["custom.py"]'
        )
    if not values["data_root"]:
        raise ValueError("data_root is not set: --cfg-options data_root=FOLDER")
    names, palette = class_names(values["classes"])
    values |= {"classes": names, "palette": palette, "num_classes": len(names)}
    check_settings(values)
    values |= _budget(values)
    values |= _passes(values) | _batches(values, world_size) | _evaluation(values)
    norm = values["clip_norm"]
    values["clip_grad"] = None if norm is None else {"max_norm": norm}
    values["pin_memory"] = torch.cuda.is_available()
    filled = {key: _fill(value, values) for key, value in values.items()}
    filled["model"]["backbone"]["seed"] = values["seed"]  # of a control; no setting of the method
    if values.get("train_share", 1) != 1:
        filled["train_dataloader"]["dataset"]["share"] = values["train_share"]
    return Config(with_tuples(filled), filename=cfg.filename)


def _budget(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `budget` changes; ValueError where the warm-up is too long."""
    budget, steps, warmup = (values[k] for k in ("budget", "max_iters", "warmup_iters"))
    changed: dict[str, Any] = {}
    if budget == "quarter":
        changed = {"max_iters": max(1, steps // 4), "warmup_iters": warmup // 4}
    elif budget == "debug":
        changed = {"max_iters": 20, "warmup_iters": min(warmup, 5), "val_limit": 8}
        changed |= {"log_steps": 5, "checkpoint_steps": 10}
    steps, warmup = (changed.get(k, values[k]) for k in ("max_iters", "warmup_iters"))
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup_iters={warmup} must lie between 0 and max_iters={steps}")
    return changed


def _passes(values: Mapping[str, Any]) -> dict[str, int]:
    """Return lengths counted in forward passes, by which MMEngine counts."""
    each = values["accumulation_steps"]
    steps = {"forward_passes": values["max_iters"], "warmup_passes": values["warmup_iters"]}
    steps["evaluation_passes"] = values["eval_steps"] or values["max_iters"]
    return {name: count * each for name, count in steps.items()}


def _batches(values: Mapping[str, Any], world_size: int) -> dict[str, int]:
    total, accumulation = values["batch_size"], values["accumulation_steps"]
    if total % (world_size * accumulation):
        raise ValueError(
            f"batch_size={total} cannot be divided among {world_size} processes with "
            f"accumulation_steps={accumulation}"
        )
    return {"device_batch": total // (world_size * accumulation)}


def _evaluation(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return how images are evaluated: as test_pipeline says, or with the views of `tta`."""
    pipeline, tta = values["test_pipeline"], values["tta"]
    if not tta["on"]:
        return {"evaluation_pipeline": pipeline, "evaluation_mode": values["test_mode"]}
    places = [i for i, transform in enumerate(pipeline) if transform["type"] == "Resize"]
    if len(places) != 1:
        raise ValueError(
            f"tta.on=True replaces the one Resize of test_pipeline, which has {len(places)} of them"
        )
    before, after = pipeline[: places[0]], pipeline[places[0] + 1 :]
    resizes = [_resize(values, ratio) for ratio in tta["ratios"]]
    mirrored = (0.0, 1.0) if tta["flip"] else (0.0,)
    flips = [{"type": "RandomFlip", "prob": p, "direction": "horizontal"} for p in mirrored]
    views = [resizes, flips, *([transform] for transform in after)]
    return {
        "evaluation_pipeline": [*before, {"type": "TestTimeAug", "transforms": views}],
        "evaluation_mode": tta["mode"] or values["test_mode"],
    }


def _resize(values: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    long, short = (int(side * ratio) for side in values["scale"])
    if values["tta"]["resize"] == "keep_ratio":
        return {"type": "Resize", "scale": (long, short), "keep_ratio": True}
    least = max(min(values["crop_size"]), short)
    return {"type": "ResizeShortestEdge", "scale": least, "max_size": 10**6}


def protocol(cfg: Config) -> dict[str, Any]:
    """Return every setting of an unfilled config that may change the figures.

    Lengths are those that `budget` stands for, and `tta` is None for a single-scale test.
    """
    values = {key: cfg[key] for key in cfg}
    values |= _budget(values)
    kept = {key: _plain(value) for key, value in values.items() if key not in NOT_PROTOCOL}
    views = {key: value for key, value in kept["tta"].items() if key != "on"}
    names, _ = class_names(cfg["classes"])
    if kept.get("train_share") == 1:  # as before there was such a setting
        kept.pop("train_share")
    return {**kept, "tta": views if kept["tta"]["on"] else None, "classes": list(names)}


def _fill(value: Any, values: Mapping[str, Any], seen: tuple[str, ...] = ()) -> Any:
    if isinstance(value, Mapping):
        return {k: _fill(v, values, seen) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fill(v, values, seen) for v in value)
    name = _named_setting(value)
    if name is None:
        return value
    if name not in values or name in seen:
        raise ValueError(f"the config refers to {value}, which does not exist or is circular")
    return _fill(values[name], values, (*seen, name))


def _named_setting(value: Any) -> str | None:
    """Return the name in "${name}"; None for anything else."""
    named = isinstance(value, str) and value.startswith("${") and value.endswith("}")
    return value[2:-1] if named else None


def with_tuples(value: Any) -> Any:
    """Return lists of numbers as tuples: what JSON forgets and MMCV insists on for sizes."""
    if isinstance(value, Mapping):
        return {k: with_tuples(v) for k, v in value.items()}
    if isinstance(value, list):
        numbers = all(isinstance(v, int | float) for v in value)
        return tuple(value) if numbers and value else [with_tuples(v) for v in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


OPEN_KEYS = ("arch_args",)  # dicts in which every key is allowed


def apply_option(cfg: Config, option: str) -> None:
    """Set one `dotted.key=value`; ValueError for an unknown key names the nearest known one."""
    key, value = parse_key_value(option)
    parts = key.split(".")
    node: Any = cfg
    for depth, part in enumerate(parts):
        if not _has(node, part) and not (depth and parts[depth - 1] in OPEN_KEYS):
            refuse_renamed([] if depth else [part])
            raise ValueError(f"the config has no key {key!r}{did_you_mean(key, _keys(cfg))}")
        if depth < len(parts) - 1:
            node = node[_place(node, part)]
    last = _place(node, parts[-1])
    old = node[last] if _has(node, parts[-1]) else None
    name = _named_setting(old)
    old = old if name is None else cfg.get(name)  # an option has the type of the named setting
    try:
        node[last] = coerce_like(value, old)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _has(node: Any, part: str) -> bool:
    if isinstance(node, Sequence) and not isinstance(node, str):
        return part.isdigit() and int(part) < len(node)
    return isinstance(node, Mapping | Config) and part in node


def _place(node: Any, part: str) -> Any:
    return int(part) if isinstance(node, Sequence) else part


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    items = node.items() if isinstance(node, Mapping | Config) else enumerate(node)
    for name, value in items:
        yield f"{prefix}{name}"
        if isinstance(value, Mapping | list | tuple):
            yield from _keys(value, f"{prefix}{name}.")
