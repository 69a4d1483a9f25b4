"""Config file + `key=value` -> one checked config.

A config file is a LazyConfig file of Detectron2 that defines `config`; others build on it with
`from .other import config`. Every key a user may set stands in configs/detection/base/, so a key
that is not there is a typo, and the error names the nearest.
"""

import math
import os
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from pretrain.run.options import coerce_like, did_you_mean, find_shipped, parse_key_value
from pretrain.run.schema import require
from transfer.detection.schema import DetectionSettings

# below these keys any name goes: they are arguments of timm and of the encoder's wrapper
OPEN_KEYS = ("arch_args",)
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "detection"
DATA_ROOT = "DETECTRON2_DATASETS"

# what a run is made of and where it lies, but not how: no part of the protocol
NOT_PROTOCOL = (
    "weights",
    "weights_source",
    "fresh",
    "unused",
    "pixels",
    "arch",
    "arch_args",
    "seed",
    "output_dir",
    "data",
    "checkpoint",
    "allow_findings",
    "config_file",
)
NOT_PROTOCOL_TRAIN = (
    "workers",
    "log_steps",
    "checkpoint_steps",
    "keep_states",
    "eval_steps",
    "compile",
    "device",
    "accumulation_steps",
    "grad_checkpointing",
)

# settings that older records do not have: at these values they are no part of the protocol either
NOT_PROTOCOL_AT: dict[str, dict[str, Any]] = {
    "features": {"decomposed_position": None, "stride_in_1x1": False},
    "model": {"arithmetic": "detectron2"},
}

# keys of Detectron2's own configs, and what does their work here
DETECTRON2_KEYS = {
    "train.init_checkpoint": "weights=FILE for an encoder, checkpoint=FILE with --eval-only",
    "MODEL.WEIGHTS": "weights=FILE for an encoder, checkpoint=FILE with --eval-only",
    "train.max_iter": "schedule.steps",
    "SOLVER.MAX_ITER": "schedule.steps",
    "train.output_dir": "output_dir",
    "OUTPUT_DIR": "output_dir",
    "dataloader.train.total_batch_size": "train.batch_size",
    "SOLVER.IMS_PER_BATCH": "train.batch_size",
    "SOLVER.BASE_LR": "optimizer.lr",
    "train.amp.enabled": "train.precision=bf16, or fp16",
    "train.checkpointer.period": "train.checkpoint_steps",
    "SEED": "seed",
}

# keys that have another name now, and which
RENAMED = {
    "allow": "allow_findings",
    "features.checkpointing": "features.grad_checkpointing",
    "model.head_norm": "model.box_norm and model.mask_norm",
    "decay": "layer_decay, layer_decay_rule and no_weight_decay",
    "decay.layers": "layer_decay",
    "decay.rule": "layer_decay_rule",
    "decay.no_weight_decay": "no_weight_decay",
    "train.batch": "train.batch_size",
    "train.accumulate": "train.accumulation_steps",
    "train.amp": "train.precision (fp32, bf16 or fp16)",
    "train.ema": "train.ema_decay (None: none)",
    "train.log_period": "train.log_steps",
    "train.checkpoint_period": "train.checkpoint_steps",
    "train.eval_period": "train.eval_steps (None: only at the end)",
    "test.batch": "test.batch_size",
}


class ConfigError(ValueError):
    """A config file or an override that cannot be used; the message says what to do."""


def load_config(
    path: str | Path, overrides: list[str] | None = None, *, training: bool = True
) -> DictConfig:
    """Return the config of a file with overrides applied, budget and data root worked in.

    A shipped config may be given by its name. Without `training` it need not name training data.
    ConfigError.
    """
    try:
        path = find_shipped(path, CONFIGS)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    if path.suffix != ".py":
        raise ConfigError(
            f"{path}: a config is a Python file (.py); other formats are not read, since reading "
            "Detectron2's YAML configs can run code. Write its settings as "
            "`from .custom_coco import config` and `config.optimizer.lr = 1e-4` in a file in "
            "configs/detection, or give them as key=value"
        )
    try:
        config = LazyConfig.load(str(path), "config")
    except KeyError:
        raise ConfigError(f"{path} does not define `config`") from None
    except (SyntaxError, NameError, AttributeError, TypeError, ImportError) as error:
        raise ConfigError(f"{path} cannot be read as a config: {error}") from error
    for key in RENAMED.keys() & set(flat_keys(config)):
        raise ConfigError(f"{path}: config.{key} is named {RENAMED[key]} now")
    for override in overrides or []:
        apply_override(config, override)
    config.config_file = str(path)
    return resolve(config, training=training)


def apply_override(config: DictConfig, override: str) -> None:
    """Set one `key=value`; the value is a Python or JSON literal, else text.

    Raises ConfigError for an unknown key.
    """
    try:
        key, value = parse_key_value(override)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not key.startswith(tuple(f"{k}." for k in OPEN_KEYS)):
        known = flat_keys(config)
        if key in DETECTRON2_KEYS:
            instead = DETECTRON2_KEYS[key]
            raise ConfigError(f"{key} of Detectron2's configs is not used here: {instead}")
        if key in RENAMED:
            raise ConfigError(f"{key} is named {RENAMED[key]} now")
        if key not in known:
            raise ConfigError(f"the config has no key {key!r}{did_you_mean(key, known)}")
        try:
            value = coerce_like(value, OmegaConf.select(config, key))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
    OmegaConf.update(config, key, value, merge=False)


def flat_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Return every key in dots: `train`, `train.batch_size`, ..."""
    keys = []
    for name in map(str, config):
        key = f"{prefix}{name}"
        keys.append(key)
        value = config._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none() and key not in OPEN_KEYS:
            keys += flat_keys(value, f"{key}.")
    return keys


def resolve(config: DictConfig, *, training: bool = True) -> DictConfig:
    """Fill in what depends on other keys: the data root, the budget, values that must agree.

    Raises ConfigError for values that do not fit together, or data that is not set.
    """
    data = config.data
    data.root = str(data.root or os.environ.get(DATA_ROOT, "datasets"))
    for key in ("train_json", "train_images", "val_json", "val_images"):
        if data[key]:
            data[key] = str(data[key]).replace("{root}", data.root)
        elif training or key.startswith("val"):
            raise ConfigError(f"data.{key} is not set: give data.{key}=PATH")
    values: Any = OmegaConf.to_container(config, resolve=True)
    require(DetectionSettings, values, ConfigError)
    if config.model.soft_nms is not None and config.test.tta is not None:
        raise ConfigError(
            "test.tta merges its views by NMS: set model.soft_nms=None, or test.tta=None"
        )
    _apply_budget(config)
    return config


def _apply_budget(config: DictConfig) -> None:
    """Shorten the schedule: "quarter" keeps its shape, "debug" is a few steps to see it run."""
    schedule, budget = config.schedule, config.budget
    if budget == "full":
        return
    steps = math.ceil(schedule.steps / 4) if budget == "quarter" else min(20, schedule.steps)
    share = steps / schedule.steps
    schedule.milestones = [round(m * share) for m in schedule.milestones]
    schedule.warmup_steps = min(schedule.warmup_steps, steps // 4)
    schedule.steps = steps


def protocol_of(config: DictConfig) -> dict[str, Any]:
    """Return every setting that may change the number, and nothing of what is compared by it."""
    plain = _plain(config)
    kept = {k: v for k, v in plain.items() if k not in NOT_PROTOCOL}
    kept["train"] = {k: v for k, v in plain["train"].items() if k not in NOT_PROTOCOL_TRAIN}
    kept["test"] = {k: v for k, v in plain["test"].items() if k not in ("batch_size", "pictures")}
    kept["features"] = {k: v for k, v in plain["features"].items() if k not in NOT_PROTOCOL_TRAIN}
    for part, values in NOT_PROTOCOL_AT.items():
        kept[part] = {k: v for k, v in kept[part].items() if (k, v) not in values.items()}
    if config.data.train_share != 1:
        kept["train_share"] = config.data.train_share
    return {"framework": "detectron2", **kept}


def _plain(node: Any) -> Any:
    """Return a config as JSON values; classes and functions by name."""
    if isinstance(node, DictConfig | dict):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, ListConfig | list | tuple):
        return [_plain(v) for v in node]
    if callable(node):
        return f"{node.__module__}.{node.__qualname__}"
    return node
