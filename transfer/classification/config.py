"""Every setting of a fine-tuning run, frozen and typed, its source beside it.

A config is a Python file that defines `finetuning = FineTuning(...)`, in configs/classification;
`key=value` overrides any setting by its name, which is unique over all groups. The comment beside
each default says where it comes from ("ours": no paper states it).
"""

import json
import math
import runpy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pretrain.config import Schedule
from pretrain.config.ranges import SEEDS, above_zero, at_least, choices, require, rising, shares
from pretrain.config.recipe import flat_settings
from pretrain.run.options import coerce_like, did_you_mean, find_shipped, parse_key_value

Config = TypeVar("Config")
CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "classification"
OPEN_KEYS = ("arch_args",)  # below them any name goes: they are arguments of timm


class ConfigError(ValueError):
    """A config file or an override that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Input:
    """What is done to an image, by timm's transforms; pixel statistics are the weights'."""

    input_size: int = 224  # pixels along a side, in training and evaluation
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the image's area; timm's default
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height; timm's default
    flip: float = 0.5  # probability; timm's default
    # timm's name of an AutoAugment or RandAugment policy; "trivial": torchvision's
    # TrivialAugmentWide; "": none; the default is MAE's, BEiT's, ConvNeXt's and FCMAE's
    auto_augment: str = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.0  # strength, without auto_augment; the papers: none beside it
    random_erasing: float = 0.25  # probability, mode "pixel"; all five codes' default
    crop_pct: float = 224 / 256  # of the shorter side in evaluation; MAE's, BEiT's, ConvNeXt's
    squash: bool = False  # evaluate whole images, their sides made equal; ConvNeXt's from 384 px on
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # in evaluation; all five codes'

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "input_size")
        shares(self, "flip", "random_erasing", "color_jitter")
        rising(self, 1, "crop_scale")
        rising(self, math.inf, "crop_ratio")
        require(0 < self.crop_pct <= 1, f"crop_pct={self.crop_pct} is not in (0, 1]")


@dataclass(frozen=True)
class Targets:
    """The loss, and what its targets are made of; mixup and cutmix take turns, batch by batch."""

    loss: Literal["cross_entropy", "binary"] = "cross_entropy"  # SparK's ResNets: binary
    label_smoothing: float = 0.1  # all five codes' default
    mixup: float = 0.0  # alpha of its Beta distribution, 0: off; MAE's and FCMAE's default
    cutmix: float = 0.0  # the same; MAE's and FCMAE's default

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 0, "mixup", "cutmix")
        good = 0 <= self.label_smoothing < 1
        require(good, f"label_smoothing={self.label_smoothing} is not in [0, 1)")

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True)
class Optimizer:
    """Which optimizer, and each parameter's share of the learning rate.

    The peak learning rate is base_lr * batch_size / lr_batch_size, or base_lr itself where
    lr_batch_size is 0. Tensors of one dimension, class tokens and position embeddings are not
    decayed. LAMB is as SparK fine-tunes: not clipped, no bias correction, always adapted.
    """

    optimizer: Literal["adamw", "lamb"] = "adamw"  # all but SparK's ResNets
    base_lr: float = 5e-4  # for lr_batch_size images; ConvNeXt V2's main_finetune.py
    lr_batch_size: int = 256  # images base_lr is meant for, 0: absolute; MAE's, FCMAE's, SparK's
    betas: tuple[float, float] = (0.9, 0.999)  # torch's default, which all five codes leave
    eps: float = 1e-8  # torch's default, which all five codes leave; LAMB's is timm's, 1e-6
    weight_decay: float = 0.05  # MAE's, BEiT's, ConvNeXt's and FCMAE's default
    clip_norm: float | None = None  # largest norm of all gradients together; None: off, the default
    layer_decay: float = 1.0  # factor from a layer to the one before it
    # transfer/features/layer_decay.py; auto: the family's
    layer_decay_rule: str = "auto"

    def __post_init__(self) -> None:
        choices(self)
        above_zero(self, "base_lr", "eps", "clip_norm", "layer_decay")
        at_least(self, 0, "lr_batch_size", "weight_decay")
        require(self.layer_decay <= 1, f"layer_decay={self.layer_decay} must be at most 1")
        require(all(0 <= b < 1 for b in self.betas), f"betas={self.betas} are not in [0, 1)")

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate after the warm-up, for `batch_size` images per step."""
        if not self.lr_batch_size:
            return self.base_lr
        return self.base_lr * batch_size / self.lr_batch_size


@dataclass(frozen=True)
class RunSettings:
    """What changes how a run is carried out; all of it ours, none of it part of the protocol."""

    device_batch_size: int = 256  # most images per device at once; the rest is accumulated
    test_batch_size: int = 256  # images per device at once in evaluation
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda if there is one
    compile: bool = False  # torch.compile the network
    grad_checkpointing: bool = False  # recompute activations in the backward pass
    # data processes per device; 0: read in the training process; auto: by the machine's cores
    workers: int | Literal["auto"] = "auto"
    log_steps: int = 10  # optimizer steps between lines of log.jsonl
    checkpoint_steps: int = 500  # optimizer steps between training states
    keep_states: int = 1  # the last training states that are kept
    eval_epochs: int | None = None  # epochs between evaluations; None: only one, at the end

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "device_batch_size", "test_batch_size", "eval_epochs", "keep_states")
        at_least(self, 1, "log_steps", "checkpoint_steps")
        if self.workers != "auto":
            at_least(self, 0, "workers")


@dataclass(frozen=True)
class FineTuning:
    """One fine-tuning run: weights and labelled images -> record and encoder file."""

    dataset: str = "classes"  # name in tables; imagenet_1k and cifar100 stand beside published rows
    weights: str = ""  # a weights file of any known layout; none: from scratch
    weights_source: str | None = None  # its layout, where it is not recognised
    fresh: tuple[str, ...] = ()  # patterns of tensors to initialise, which the file need not have
    unused: tuple[str, ...] = ()  # patterns of the file's tensors to leave out
    arch: str | None = None  # timm's name; None: the weights'
    arch_args: dict[str, Any] = field(default_factory=dict)  # of timm.create_model
    # what the classifier reads from a plain ViT: the mean of its patches, as MAE's and BEiT's code,
    # or the class token, as MAE's paper
    pool: Literal["mean", "token"] = "mean"
    head_std: float | None = 0.02  # of the classifier's initial weights; None: torch's default
    drop_path_rate: float = 0.0  # stochastic depth at the last block
    ema_decay: float | None = None  # of the averaged weights, which are evaluated; None: off
    # BatchNorm over the images of all processes, as SparK's util.py, or of one at a time
    batch_norm: Literal["SyncBN", "BN"] = "SyncBN"
    batch_size: int = 1024  # images per optimizer step, over all devices; MAE, BEiT, FCMAE
    repeats: int = 1  # augmented copies of an image in a row: repeated augmentation; 1: off
    images: Input = field(default_factory=Input)
    targets: Targets = field(default_factory=Targets)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    # fp32: no autocast, on a GPU products in TF32; bf16, fp16: autocast, fp16 with a scaled loss;
    # auto: the half precision that the GPU computes, fp32 on the CPU; ours
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    evaluate: bool = True  # false: there is no val split; the run ends in the encoder file alone
    allow_findings: tuple[str, ...] = ()  # errors of the data check to go on with
    run: RunSettings = field(default_factory=RunSettings)
    seed: int = 0  # of the classifier, data order, augmentation and mixing; ours

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "batch_size", "repeats")
        require(0 <= self.seed < SEEDS, f"seed={self.seed} must be at least 0, below 2**32")
        above_zero(self, "head_std", "ema_decay")
        require(0 <= self.drop_path_rate < 1, f"drop_path_rate={self.drop_path_rate}: below 1")
        require((self.ema_decay or 0) < 1, f"ema_decay={self.ema_decay} must be below 1")

    def peak_lr(self) -> float:
        """Return the learning rate after the warm-up, by the config's batch-size rule."""
        return self.optimizer.peak_lr(self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Return nested plain values."""
        return json.loads(json.dumps(asdict(self)))


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> FineTuning:
    """Return the `finetuning` that a file defines, with `key=value` overrides applied.

    A bare file name means a file in configs/classification, so that configs can vary one another.
    Raises FileNotFoundError and ConfigError; they name the nearest file or setting.
    """
    file = find_shipped(path, CONFIG_FOLDER)
    try:
        config = runpy.run_path(str(file)).get("finetuning")
    except (ValueError, ImportError, SyntaxError, NameError, AttributeError, TypeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    if not isinstance(config, FineTuning):
        raise ConfigError(f"{file} does not define `finetuning = FineTuning(...)`")
    for word in overrides:
        config = override(config, word)
    return checked(config)


def checked(config: Config) -> Config:
    """Return the config if every setting has its declared type. Raises ConfigError otherwise."""
    try:
        TypeAdapter(type(config)).validate_python(asdict(config))  # type: ignore[call-overload]
    except ValidationError as error:
        told = [f"{e['loc'][-1]}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(told)) from None
    return config


def override(config: Config, word: str) -> Config:
    """Return the config with one `key=value`, the value a Python or JSON literal, else text.

    Raises ConfigError for an unknown key or a value that does not fit.
    """
    try:
        key, value = parse_key_value(word)
        first, _, rest = key.partition(".")
        if rest and first in OPEN_KEYS:
            first, value = key.split(".")[0], {**getattr(config, first), rest: value}
        return _changed(config, first if rest and first in OPEN_KEYS else key, value)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{word}: {error}") from None


def _changed(config: Any, key: str, value: Any) -> Any:
    """Return a nested dataclass with the setting `key` changed, wherever it lies."""
    known = flat_settings(config)
    if key not in known:
        raise ConfigError(f"the config has no setting {key!r}{did_you_mean(key, known)}")
    for item in fields(config):
        old = getattr(config, item.name)
        if is_dataclass(old) and key in flat_settings(old):
            return replace(config, **{item.name: _changed(old, key, value)})
    old = known[key]
    if isinstance(old, int) and get_type_hints(type(config))[key] is float:
        old = float(old)  # 100 epochs may become half an epoch
    new = value if key == "workers" else coerce_like(value, old)
    return replace(config, **{key: tuple(new) if isinstance(old, tuple) else new})
