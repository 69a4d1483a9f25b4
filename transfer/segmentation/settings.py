"""The settings of our own in a config: their former names, and the values they may take."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from transfer.segmentation.labels import IGNORED

# a name that this suite once had -> what to write now
RENAMED = {
    "accumulation": "accumulation_steps",
    "ema": "ema_decay",
    "clip_grad": "clip_norm (the largest norm itself; None: off)",
    "decay_rule": "layer_decay_rule ('auto': the architecture's)",
    "decay_norms": "no_weight_decay ('vectors', or 'nothing' where it was True)",
    "drop_path": "drop_path_rate",
    "checkpointing": "grad_checkpointing",
    "amp": "precision ('fp32', 'bf16' or 'fp16')",
    "amp_dtype": "precision ('fp32', 'bf16' or 'fp16')",
    "views": "tta.on (True: multi-scale)",
    "test_ratios": "tta.ratios",
    "test_resize": "tta.resize",
    "log_interval": "log_steps",
    "save_interval": "checkpoint_steps",
}
TTA_KEYS = ("on", "ratios", "flip", "resize", "mode")


def refuse_renamed(keys: Iterable[str]) -> None:
    """Raise ValueError for a former name among `keys`, with the name it has now."""
    for key in keys:
        if key in RENAMED:
            raise ValueError(f"{key} has been renamed: write {RENAMED[key]}")


def check_settings(values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first setting that has no meaning, with what is expected."""
    for name, (fits, expected) in EXPECTED.items():
        if name in values and not fits(values[name]):
            raise ValueError(f"{name}={values[name]!r}: {expected} is expected")
    if values["test_mode"] == "slide" and not _is_size(values["stride"]):
        raise ValueError(f"stride={values['stride']!r}: test_mode='slide' needs (height, width)")
    check_tta(values["tta"])
    check_classes(values["classes"], values["reduce_zero_label"])


def check_tta(tta: Mapping[str, Any]) -> None:
    """Raise ValueError where the views of a multi-scale test are not well defined."""
    if set(tta) != set(TTA_KEYS):
        raise ValueError(f"tta has the keys {', '.join(TTA_KEYS)}, got {', '.join(tta)}")
    ratios = tta["ratios"]
    if not ratios or not all(_is_number(ratio) and ratio > 0 for ratio in ratios):
        raise ValueError(f"tta.ratios={ratios!r}: scales above 0 are expected, e.g. (0.75, 1.0)")
    if tta["resize"] not in ("keep_ratio", "at_least_crop"):
        raise ValueError(f"tta.resize must be keep_ratio or at_least_crop, got {tta['resize']!r}")
    if tta["mode"] not in (None, "whole", "slide"):
        raise ValueError(f"tta.mode must be None (test_mode), whole or slide, got {tta['mode']!r}")


def check_classes(names: Sequence[Any], reduce_zero_label: bool) -> None:
    """Raise ValueError unless `names` are different texts that 8-bit label maps can hold."""
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes={list(names)}: names are expected, in the labels' order")
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"classes needs at least two different names, got {list(names)}")
    most = IGNORED - bool(reduce_zero_label)  # one label more is "other"
    if len(names) > most:
        raise ValueError(f"{len(names)} classes: 8-bit label maps hold at most {most}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low <= value <= high


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low < value < high


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, " or ".join(names)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


COUNT = (_is_count, "a whole number above 0")
SIZE = (_is_size, "two whole numbers above 0")
NAMES = (_is_list, "a list of names")
EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": COUNT,
    "accumulation_steps": COUNT,
    "max_iters": COUNT,
    "log_steps": COUNT,
    "checkpoint_steps": COUNT,
    "eval_steps": (_optional(_is_count), "a whole number above 0, or None: at the end alone"),
    "val_limit": (_optional(_is_count), "a whole number above 0, or None: all images"),
    "workers": (lambda value: value == 0 or _is_count(value), "a whole number from 0"),
    "seed": (lambda value: value == 0 or _is_count(value), "a whole number from 0"),
    "crop_size": SIZE,
    "scale": SIZE,
    "lr": (_between(0, math.inf), "a number above 0"),
    "weight_decay": (_within(0, 1e9), "a number from 0"),
    "clip_norm": (_optional(_between(0, math.inf)), "a number above 0, or None: off"),
    "ema_decay": (_optional(_between(0, 1)), "a number between 0 and 1, or None: off"),
    "layer_decay": (lambda value: _between(0, 1)(value) or value == 1, "a number in (0, 1]"),
    "drop_path_rate": (lambda value: value == 0 or _between(0, 1)(value), "a number in [0, 1)"),
    "precision": _one_of("fp32", "bf16", "fp16"),
    "no_weight_decay": _one_of("vectors", "nothing"),
    "budget": _one_of("full", "quarter", "debug"),
    "test_mode": _one_of("whole", "slide"),
    "fresh": NAMES,
    "unused": NAMES,
    "allow_findings": NAMES,
}
