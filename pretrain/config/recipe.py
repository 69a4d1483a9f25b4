"""The recipe: every setting of a pretraining run, frozen and typed.

A recipe is a Python file that defines `recipe = Recipe(...)`. The comment beside a setting says
where its value comes from, and `tools/pretrain.py CONFIG --explain` prints it; so does the comment
beside each default below ("ours": no paper states it). Nothing here imports torch.
"""

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal

from pretrain.config.ranges import SEEDS, above_zero, at_least, require, rising
from pretrain.config.tokenizer import TokenizerSettings

FREE = ("run",)  # settings that a resumed run may change
MOST_LR = 100  # far above every recipe's

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SparkSettings:
    """SparK (arXiv 2301.03580); sources are files of keyu-tian/SparK `pretrain/` at a63e386."""

    name: ClassVar[str] = "spark"
    mask_ratio: float = 0.6  # share of patches hidden; paper 4.1, utils/arg_util.py
    decoder_width: int = 768  # channels at the smallest map; decoder.py
    # norm of the feature maps before the decoder; auto: the encoder's kind, as spark.py
    densify_norm: Literal["auto", "bn", "ln"] = "auto"
    # same mathematics both ways; auto: patches on the CPU, dense on CUDA until measured there; ours
    sparse: Literal["auto", "patches", "dense"] = "auto"

    def __post_init__(self) -> None:
        require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio} is not between 0 and 1")
        at_least(self, 1, "decoder_width")


@dataclass(frozen=True)
class FcmaeSettings:
    """FCMAE (arXiv 2301.00808); sources are files of facebookresearch/ConvNeXt-V2 at 2553895."""

    name: ClassVar[str] = "fcmae"
    mask_ratio: float = 0.6  # share of patches hidden; paper Table 8, models/fcmae.py
    decoder_width: int = 512  # channels; models/fcmae.py
    decoder_depth: int = 1  # ConvNeXt V2 blocks; models/fcmae.py
    # paper's JAX form; "release": std 1 on convolutions, as models/fcmae.py has it by oversight
    weight_init: Literal["std_0.02", "release"] = "std_0.02"
    # same mathematics both ways; auto: patches on the CPU, dense on CUDA until measured there; ours
    sparse: Literal["auto", "patches", "dense"] = "auto"

    def __post_init__(self) -> None:
        require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio} is not between 0 and 1")
        at_least(self, 1, "decoder_width", "decoder_depth")


@dataclass(frozen=True)
class BeitSettings:
    """BEiT (arXiv 2106.08254); sources are files of microsoft/unilm `beit/` at 768a3c8."""

    name: ClassVar[str] = "beit"
    masked_patches: int = 75  # at most, of 14 x 14 (other grids: the share); get_started.md
    smallest_block: int = 16  # patches of 14 x 14 in a masked block; run_beit_pretraining.py
    tokenizer: str = ""  # its file; "": train one on the run's images first; ours
    tokenizer_training: TokenizerSettings = field(default_factory=TokenizerSettings)

    def __post_init__(self) -> None:
        require(
            0 < self.smallest_block <= self.masked_patches < 196,
            "need 0 < smallest_block <= masked_patches < 196 patches of 14 x 14, got "
            f"{self.smallest_block} and {self.masked_patches}",
        )


@dataclass(frozen=True)
class Augmentation:
    """Random resized crop (bicubic) and flip; BEiT jitters colours first."""

    crop_scale: tuple[float, float] = (0.2, 1.0)  # share of the image's area; MAE's; FCMAE's
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height; torchvision's default
    flip: float = 0.5  # probability; all three papers
    color_jitter: float = 0.0  # strength for brightness, contrast, saturation; SparK, FCMAE: none
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN  # RGB in [0, 1]; ImageNet's
    pixel_std: tuple[float, float, float] = IMAGENET_STD  # RGB in [0, 1]; ImageNet's

    def __post_init__(self) -> None:
        rising(self, 1, "crop_scale")
        rising(self, math.inf, "crop_ratio")
        require(0 <= self.flip <= 1, f"flip={self.flip} is not a probability")
        require(0 <= self.color_jitter < 1, f"color_jitter={self.color_jitter} is not in [0, 1)")
        for name in ("pixel_mean", "pixel_std"):
            values = getattr(self, name)
            require(
                all(0 <= v <= 1 for v in values) and (name == "pixel_mean" or min(values) > 0),
                f"{name}={values} is not in [0, 1] units: divide values of 0 to 255 by 255",
            )


@dataclass(frozen=True)
class Optimizer:
    """Which optimizer, and which parameters are decayed.

    The peak learning rate is base_lr * batch_size / lr_batch_size, or base_lr itself where
    lr_batch_size is 0. Tensors of one dimension, biases and names that contain a part of
    `never_decay` are not decayed, names that contain a part of `always_decay` always are.
    """

    optimizer: Literal["adamw", "lamb"] = "adamw"  # BEiT and FCMAE; SparK: lamb
    base_lr: float = 1.5e-4  # see above; MAE's and FCMAE's
    lr_batch_size: int = 256  # images base_lr is meant for, 0: absolute; MAE's, FCMAE's, SparK's
    betas: tuple[float, float] = (0.9, 0.95)  # MAE's; FCMAE's
    eps: float = 1e-8  # torch's default; BEiT states it
    weight_decay: float = 0.05  # BEiT, FCMAE
    weight_decay_end: float | None = None  # reached by a cosine; see Schedule.curve; SparK only
    clip_norm: float | None = None  # largest norm of all gradients together; FCMAE: none
    never_decay: tuple[str, ...] = ()  # parts of names; FCMAE: none
    always_decay: tuple[str, ...] = ()  # parts of names, whatever their dimensions; ours

    def __post_init__(self) -> None:
        above_zero(self, "base_lr", "eps", "clip_norm")
        at_least(self, 0, "lr_batch_size", "weight_decay", "weight_decay_end")
        require(self.base_lr <= MOST_LR, f"base_lr={self.base_lr} must be at most {MOST_LR}")
        require(all(0 <= b < 1 for b in self.betas), f"betas={self.betas} are not in [0, 1)")

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate after the warm-up, for `batch_size` images per step."""
        if not self.lr_batch_size:
            return self.base_lr
        return self.base_lr * batch_size / self.lr_batch_size


@dataclass(frozen=True)
class Schedule:
    """The length of training, and the learning rate from step to step.

    `curve` names whose code decides the ends: spark's cosine ends on the last step, mae's one
    step after it, beit's warm-up reaches the peak on its last step (see schedule.py).
    """

    epochs: float = 800  # FCMAE's and BEiT's code
    warmup_epochs: float = 40  # SparK's and FCMAE's code
    steps: int | None = None  # optimizer steps instead of epochs; ours
    warmup_steps: int | None = None  # instead of warmup_epochs; BEiT on ImageNet-22K
    warmup_start: float = 0.0  # share of the peak at step 0; MAE's, FCMAE's, BEiT's
    final: float = 0.0  # share of the peak at the end; FCMAE's min_lr 0
    curve: Literal["spark", "mae", "beit"] = "mae"  # main_pretrain.py
    # the images of an epoch that do not fill a step: left out, or filled up with the epoch's first
    last_step: Literal["drop", "fill"] = "drop"  # FCMAE's and BEiT's code; SparK: fill

    def __post_init__(self) -> None:
        above_zero(self, "epochs", "steps")
        at_least(self, 0, "warmup_epochs", "warmup_steps", "warmup_start", "final")
        told = "must be at most 1: it is a share of the peak"
        require(self.warmup_start <= 1, f"warmup_start={self.warmup_start} {told}")
        require(self.final <= 1, f"final={self.final} {told}")


@dataclass(frozen=True)
class RunSettings:
    """What changes how a run is carried out; all of it ours, none of it part of the method."""

    device_batch_size: int = 256  # most images per device at once; the rest is accumulated
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda if there is one
    compile: bool = False  # torch.compile the method
    # data processes per device; 0: read in the training process; auto: by the machine's cores
    workers: int | Literal["auto"] = "auto"
    log_steps: int = 10  # optimizer steps between lines of log.jsonl
    checkpoint_steps: int = 500  # optimizer steps between training states
    keep_states: int = 1  # the last training states that are kept
    encoder_epochs: int | None = None  # epochs between encoder files; None: only one, at the end
    pictures: int = 6  # images of reconstructions.png

    def __post_init__(self) -> None:
        at_least(self, 1, "device_batch_size", "pictures", "encoder_epochs", "keep_states")
        at_least(self, 1, "log_steps", "checkpoint_steps")
        if self.workers != "auto":
            at_least(self, 0, "workers")


MethodSettings = SparkSettings | FcmaeSettings | BeitSettings


@dataclass(frozen=True)
class Recipe:
    """One pretraining run. `arch` and `arch_args` are arguments of `timm.create_model`."""

    arch: str  # timm's name of the encoder
    method: MethodSettings
    arch_args: dict[str, Any] = field(default_factory=dict)  # as JSON on the command line
    image_size: int = 224  # pixels along a side; all three papers
    drop_path_rate: float = 0.0  # stochastic depth at the last block; FCMAE: none
    batch_size: int = 4096  # images per optimizer step, over all devices; SparK, FCMAE
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    # fp32: no autocast, on a GPU products in TF32; bf16, fp16: autocast, fp16 with a scaled loss;
    # auto: the half precision that the GPU computes, fp32 on the CPU
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"  # SparK, FCMAE
    run: RunSettings = field(default_factory=RunSettings)
    seed: int = 0  # of weights, data order, crops and masks; ours

    def __post_init__(self) -> None:
        at_least(self, 1, "image_size", "batch_size")
        at_least(self, 0, "drop_path_rate")
        require(0 <= self.seed < SEEDS, f"seed={self.seed} must be at least 0, below 2**32")
        require(self.drop_path_rate < 1, f"drop_path_rate={self.drop_path_rate} must be below 1")

    def peak_lr(self) -> float:
        """Return the learning rate after the warm-up, by the recipe's batch-size rule."""
        return self.optimizer.peak_lr(self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Return nested plain values, with the method's name under "method"."""
        return {**asdict(self), "method": {"name": self.method.name, **asdict(self.method)}}


def flat_settings(recipe: Any) -> dict[str, Any]:
    """Return every setting by its name on the command line: `{"epochs": 800, ...}`; all differ."""
    values: dict[str, Any] = {}
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        values |= flat_settings(value) if is_dataclass(value) else {item.name: value}
        if item.name == "method":
            values = {"method": value.name, **values}
    return values
