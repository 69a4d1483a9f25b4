"""The settings of our own at the top of a config: types, ranges, former names.

What lies below them (model, pipelines, hooks) is MMSegmentation's and MMEngine's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pretrain.run.schema import (
    ClosedSettings,
    Count,
    Decay,
    DropRate,
    ImageShare,
    LayerDecay,
    LearningRate,
    Positive,
    Seed,
    Settings,
    Text,
    WeightDecay,
    Whole,
    require,
)
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

Size = Annotated[list[Count], Field(min_length=2, max_length=2)]  # height, width
Names = list[str]


class Tta(ClosedSettings):
    """The views of a multi-scale test."""

    on: bool
    ratios: Annotated[list[Positive], Field(min_length=1)]
    flip: bool
    resize: Literal["keep_ratio", "at_least_crop"]
    mode: Literal["whole", "slide"] | None


class SegmentationSettings(Settings):
    """Every top-level key of ours."""

    weights: Text = "none"
    arch: Text | None = None
    arch_args: dict[str, Any] = Field({})
    fresh: Names = Field([])
    unused: Names = Field([])
    allow_findings: Names = Field([])
    seed: Seed = 0
    dataset: Text | None = None
    sync_bn: bool = True
    budget: Literal["full", "quarter", "debug"] = "full"
    freeze: Literal["none", "backbone"] = "none"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_size: Count
    accumulation_steps: Count
    max_iters: Count
    warmup_iters: Whole
    workers: Whole = 0
    log_steps: Count
    checkpoint_steps: Count
    eval_steps: Count | None = None
    val_limit: Count | None = None
    tensorboard: bool = False
    save_predictions: bool = False
    crop_size: Size
    scale: Size
    stride: Size | None = None
    test_mode: Literal["whole", "slide"]
    tta: Tta
    lr: LearningRate
    weight_decay: WeightDecay
    clip_norm: Positive | None = None
    ema_decay: Decay | None = None
    layer_decay: LayerDecay = 1.0
    layer_decay_rule: Text = "auto"
    no_weight_decay: Literal["vectors", "nothing"] = "vectors"
    drop_path_rate: DropRate = 0.0
    grad_checkpointing: bool = False
    image_size: Count | None = None
    relative_position: bool = False
    layer_scale: Positive | None = None
    data_root: Text
    train_images: Text | None = None
    train_labels: Text | None = None
    val_images: Text | None = None
    val_labels: Text | None = None
    classes: list[Any] | Text = Field([])
    pixels: Literal["weights", "imagenet"] = "weights"
    scale_range: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    train_share: ImageShare = 1.0
    image_suffix: Text | None = None
    label_suffix: Text = ".png"
    reduce_zero_label: bool
    head_channels: Count = 512
    aux_channels: Count = 256


def refuse_renamed(keys: Iterable[str]) -> None:
    """Raise ValueError for a former name among `keys`, with the name it has now."""
    for key in keys:
        if key in RENAMED:
            raise ValueError(f"{key} has been renamed: write {RENAMED[key]}")


def check_settings(values: Mapping[str, Any]) -> None:
    """Raise ValueError where a setting is of another type or outside of its range."""
    own = {name: as_lists(value) for name, value in values.items()}
    require(SegmentationSettings, own)
    if own["test_mode"] == "slide" and own["stride"] is None:
        raise ValueError("stride=None: test_mode='slide' needs (height, width)")
    check_classes(own["classes"], own["reduce_zero_label"])


def as_lists(value: Any) -> Any:
    """Return tuples as lists, at any depth: a size may be either."""
    if isinstance(value, Mapping):
        return {name: as_lists(inner) for name, inner in value.items()}
    return [as_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def check_classes(names: Sequence[Any], reduce_zero_label: bool) -> None:
    """Raise ValueError unless `names` are different texts that 8-bit label maps can hold."""
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes={list(names)}: names are expected, in the labels' order")
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"classes needs at least two different names, got {list(names)}")
    most = IGNORED - bool(reduce_zero_label)  # one label more is "other"
    if len(names) > most:
        raise ValueError(f"{len(names)} classes: 8-bit label maps hold at most {most}")
