"""The recipe: every setting of a pretraining run, frozen and typed.

A recipe is a Python file that defines `recipe = Recipe(...)`. The comment beside a setting says
where its value comes from, and `tools/pretrain.py CONFIG --explain` prints it; so does the comment
beside each default below ("ours": no paper states it). Nothing here imports torch.
"""

import difflib
import re
import runpy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import TypeAdapter

from pretrain.config.tokenizer import TokenizerSettings

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "pretrain"


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
        _require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio} is not between 0 and 1")


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
        _require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio} is not between 0 and 1")


@dataclass(frozen=True)
class BeitSettings:
    """BEiT (arXiv 2106.08254); sources are files of microsoft/unilm `beit/` at 768a3c8."""

    name: ClassVar[str] = "beit"
    masked_patches: int = 75  # at most, of 14 x 14 (other grids: the share); get_started.md
    smallest_block: int = 16  # patches of 14 x 14 in a masked block; run_beit_pretraining.py
    tokenizer: str = ""  # its file; "": train one on the run's images first; ours
    tokenizer_training: TokenizerSettings = field(default_factory=TokenizerSettings)

    def __post_init__(self) -> None:
        _require(
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
        low, high = self.crop_scale
        _require(0 < low <= high <= 1, f"crop_scale={self.crop_scale} is not within (0, 1]")
        _require(0 <= self.flip <= 1, f"flip={self.flip} is no probability")
        _require(0 <= self.color_jitter < 1, f"color_jitter={self.color_jitter} is not in [0, 1)")


@dataclass(frozen=True)
class Optimizer:
    """Which optimizer, and which parameters are decayed.

    The peak learning rate is base_lr * batch_size / lr_batch_size, or base_lr itself where
    lr_batch_size is 0. Tensors of one dimension, biases and names holding a part of `no_decay`
    are not decayed, names holding a part of `decay` always.
    """

    optimizer: Literal["adamw", "lamb"] = "adamw"  # BEiT and FCMAE; SparK: lamb
    base_lr: float = 1.5e-4  # see above; MAE's and FCMAE's
    lr_batch_size: int = 256  # images base_lr is meant for, 0: absolute; MAE's, FCMAE's, SparK's
    betas: tuple[float, float] = (0.9, 0.95)  # MAE's; FCMAE's
    eps: float = 1e-8  # torch's default; BEiT states it
    weight_decay: float = 0.05  # BEiT, FCMAE
    weight_decay_end: float | None = None  # reached by a cosine at the last step; SparK only
    clip_norm: float | None = None  # largest norm of all gradients together; FCMAE: none
    no_decay: tuple[str, ...] = ()  # parts of names; FCMAE: none
    decay: tuple[str, ...] = ()  # parts of names decayed though of one dimension; ours

    def __post_init__(self) -> None:
        _require(self.base_lr > 0, f"base_lr={self.base_lr} must be above 0")
        _require(self.lr_batch_size >= 0, f"lr_batch_size={self.lr_batch_size} is negative")

    def peak_lr(self, batch_size: int) -> float:
        """The learning rate after the warm-up, for `batch_size` images a step."""
        if not self.lr_batch_size:
            return self.base_lr
        return self.base_lr * batch_size / self.lr_batch_size


@dataclass(frozen=True)
class Schedule:
    """How long, and how the learning rate moves from step to step.

    `curve` names whose code decides the ends: spark's cosine ends on the last step, mae's one
    step after it, beit's warm-up reaches the peak on its last step (see schedule.py).
    """

    epochs: float = 800  # FCMAE's and BEiT's code
    warmup_epochs: float = 40  # SparK's and FCMAE's code
    steps: int | None = None  # optimizer steps in place of epochs; ours
    warmup_steps: int | None = None  # in place of warmup_epochs; BEiT on ImageNet-22K
    warmup_start: float = 0.0  # share of the peak at step 0; MAE's, FCMAE's, BEiT's
    final: float = 0.0  # share of the peak at the end; FCMAE's min_lr 0
    curve: Literal["spark", "mae", "beit"] = "mae"  # main_pretrain.py

    def __post_init__(self) -> None:
        _require(self.epochs > 0, f"epochs={self.epochs} must be above 0")
        _require(self.steps is None or self.steps > 0, f"steps={self.steps} must be above 0")
        _require(self.warmup_epochs >= 0, f"warmup_epochs={self.warmup_epochs} is negative")


@dataclass(frozen=True)
class Run:
    """What changes how a run is carried out; all of it ours, none of it part of the method."""

    device_batch_size: int = 256  # most images a device takes at once; the rest is accumulated
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where there is one
    # bf16: matrix products in bfloat16; auto: where the device has it, fp32 on the CPU
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False  # torch.compile the method
    workers: int = 2  # data processes a device; 0: read in the training process
    log_steps: int = 10  # optimizer steps between lines of log.jsonl
    checkpoint_steps: int = 500  # optimizer steps between training states
    pictures: int = 6  # images of reconstructions.png

    def __post_init__(self) -> None:
        for name in ("device_batch_size", "log_steps", "checkpoint_steps", "pictures"):
            _require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1")
        _require(self.workers >= 0, f"workers={self.workers} is negative")


Method = SparkSettings | FcmaeSettings | BeitSettings


@dataclass(frozen=True)
class Recipe:
    """One pretraining run. `arch` and `arch_args` are arguments of `timm.create_model`."""

    arch: str  # timm's name of the encoder
    method: Method
    arch_args: dict[str, Any] = field(default_factory=dict)  # as JSON on the command line
    image_size: int = 224  # pixels along a side; all three papers
    drop_path_rate: float = 0.0  # stochastic depth at the last block; FCMAE: none
    batch_size: int = 4096  # images an optimizer step, over all devices; SparK, FCMAE
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    run: Run = field(default_factory=Run)
    seed: int = 0  # of weights, data order, crops and masks; ours

    def __post_init__(self) -> None:
        _require(self.image_size > 0, f"image_size={self.image_size} must be above 0")
        _require(self.batch_size > 0, f"batch_size={self.batch_size} must be above 0")
        _require(self.seed >= 0, f"seed={self.seed} is negative")

    def peak_lr(self) -> float:
        """The learning rate after the warm-up, by the recipe's batch-size rule."""
        return self.optimizer.peak_lr(self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Nested plain values; the method's name under "method"."""
        return {**asdict(self), "method": {"name": self.method.name, **asdict(self.method)}}


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_json` wrote."""
    method = dict(values["method"])
    name = method.pop("name")
    kind = next(kind for kind in get_args(Method) if kind.name == name)
    settings = TypeAdapter(kind).validate_python(method)
    return TypeAdapter(Recipe).validate_python({**values, "method": settings})


def flat(recipe: Any) -> dict[str, Any]:
    """Every setting by its name on the command line, which is unique: `{"epochs": 800, ...}`."""
    values: dict[str, Any] = {}
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        values |= flat(value) if is_dataclass(value) else {item.name: value}
        if item.name == "method":
            values = {"method": value.name, **values}
    return values


def load_recipe(path: Path | str) -> Recipe:
    """The `recipe` that the Python file `path` defines; ValueError or FileNotFoundError if none.

    A bare file name means a file in configs/pretrain, so that recipes can vary one another.
    """
    file = find_config(path)
    try:
        recipe = runpy.run_path(str(file)).get("recipe")
    except TypeError as error:
        raise ValueError(f"{file}: {error}{_nearest_field(str(error))}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{file} does not define `recipe = Recipe(...)`")
    return recipe


def find_config(path: Path | str) -> Path:
    """`path`, or the shipped recipe of that name."""
    given = Path(path)
    for file in (given, CONFIG_FOLDER / given.name):
        if file.is_file() and (file == given or given.parent == Path()):
            return file
    shipped = sorted(p.stem for p in CONFIG_FOLDER.glob("*.py"))
    near = difflib.get_close_matches(given.stem, shipped, n=3, cutoff=0.4) or shipped[:3]
    raise FileNotFoundError(
        f"no recipe at {path}; shipped ones near it in configs/pretrain: {', '.join(near)}"
    )


def _nearest_field(error: str) -> str:
    """What to write in place of an argument that the recipe's classes do not have."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", error)
    owner = found and globals().get(found[1])
    if not found or not is_dataclass(owner):
        return ""
    names = [item.name for item in fields(owner)]
    near = difflib.get_close_matches(found[2], names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; {found[1]} has {', '.join(names)}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
