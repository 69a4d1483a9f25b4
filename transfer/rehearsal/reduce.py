"""How a config of each family is rehearsed: the settings that differ from its own.

A Plan is a list of `key=value`, as a user would give them. Reduced, a net is narrow and shallow,
images are small and steps are few; everything else stays the config's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transfer.rehearsal.nested import as_text, lengths_px, plain, shrunk, value_at

Family = Literal["pretraining", "classification", "detection", "segmentation"]
FOLDERS: dict[str, Family] = {"pretrain": "pretraining", "classification": "classification"}
FOLDERS |= {"detection": "detection", "segmentation": "segmentation"}

# what a config defines or builds on -> its family
SIGNS: dict[str, Family] = {
    "recipe": "pretraining",
    "finetuning": "classification",
    "config": "detection",
    "_base_": "segmentation",
}
# what the rehearsal sets -> the key of each family; one that is missing has no such setting
KEYS: dict[Family, dict[str, str]] = {
    "pretraining": {
        "steps": "steps",
        "warmup": "warmup_steps",
        "batch": "batch_size",
        "device_batch": "device_batch_size",
        "checkpoint": "checkpoint_steps",
        "log": "log_steps",
        "workers": "workers",
        "arch_args": "arch_args",
        "precision": "precision",
    },
    "detection": {
        "steps": "schedule.steps",
        "warmup": "schedule.warmup_steps",
        "milestones": "schedule.milestones",
        "batch": "train.batch_size",
        "accumulation": "train.accumulation_steps",
        "checkpoint": "train.checkpoint_steps",
        "log": "train.log_steps",
        "workers": "train.workers",
        "arch_args": "arch_args",
        "precision": "train.precision",
        "precise_bn": "test.precise_bn",
        "tta": "test.tta",
        "allow": "allow_findings",
    },
    "segmentation": {
        "steps": "max_iters",
        "warmup": "warmup_iters",
        "batch": "batch_size",
        "accumulation": "accumulation_steps",
        "checkpoint": "checkpoint_steps",
        "log": "log_steps",
        "workers": "workers",
        "arch_args": "arch_args",
        "precision": "precision",
        "tta": "tta.on",
        "allow": "allow_findings",
    },
}
KEYS["classification"] = {**KEYS["pretraining"], "allow": "allow_findings"}
SEGMENTATION_TTA = True  # the value that turns it on
# the beginning of an architecture's name -> arguments of a small one of its kind
SMALL_NETS: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [1, 1, 1, 1], "channels": [16, 16, 16, 16]},
    "convnextv2": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "convnext": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "beit": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    "vit": {"embed_dim": 32, "depth": 4, "num_heads": 2},
}
DEFAULT_ARCH = "convnextv2_atto"  # where a config takes it from the weights
IMAGE_PX = {"resnet": 96, "convnextv2": 96, "convnext": 96, "beit": 64, "vit": 64}  # of pretraining
LONGEST_PX = 160  # of an image in detection
CROP_PX = 64  # of segmentation
IMAGENET_IMAGES = 1_281_167


@dataclass(frozen=True)
class Request:
    """What is asked for a rehearsal."""

    steps: int = 3
    processes: int = 1
    full_size: bool = False
    on_gpu: bool = False
    images: int = IMAGENET_IMAGES  # of the data set to pretrain on, for the hours


@dataclass(frozen=True)
class Plan:
    """How one config is rehearsed."""

    options: Mapping[str, Any]  # key -> value
    batch: int  # images a step
    full_steps: int  # of the config's own schedule, on its own data
    arch: str
    arch_args: dict[str, Any]
    notes: tuple[str, ...] = ()  # where the rehearsal leaves the config for want of hardware

    def words(self) -> list[str]:
        """Return the options as detection and segmentation take them."""
        return [f"{key}={as_text(value)}" for key, value in self.options.items()]

    def flags(self) -> list[str]:
        """Return the options as pretraining takes them."""
        return [
            word
            for key, value in self.options.items()
            for word in (f"--{key.replace('_', '-')}", as_text(value))
        ]


def family_of(config: Path) -> Family:
    """Return the family of a config by its folder, or by what it says; ValueError otherwise."""
    for part in reversed(config.resolve().parent.parts):
        if part in FOLDERS:
            return FOLDERS[part]
    text = config.read_text()
    for sign, family in SIGNS.items():
        if f"\n{sign} =" in f"\n{text}" or f"import {sign}\n" in text:
            return family
    raise ValueError(
        f"{config} is in none of the folders {', '.join(FOLDERS)} and defines none of "
        f"{', '.join(SIGNS)}"
    )


def small_net(arch: str, arch_args: Mapping[str, Any], full_size: bool) -> dict[str, Any]:
    """Return the config's own arguments, made narrow and shallow unless `full_size`."""
    return {**arch_args, **({} if full_size else SMALL_NETS[kind_of(arch)])}


def kind_of(arch: str) -> str:
    """Return the key of SMALL_NETS for an architecture; ValueError if it has none."""
    for kind in SMALL_NETS:
        if arch.startswith(kind):
            return kind
    raise ValueError(
        f"there is no small form of {arch} (only of {', '.join(SMALL_NETS)}): use --full-size"
    )


def common(family: Family, request: Request, warmup: int, batch: int) -> dict[str, Any]:
    """Return what all families share: few steps, each of them saved and logged."""
    keys = KEYS[family]
    options = {keys["steps"]: request.steps, keys["warmup"]: min(warmup, request.steps - 1)}
    options |= {keys["checkpoint"]: 1, keys["log"]: 1, keys["batch"]: batch}
    if not request.full_size:
        options[keys["workers"]] = 0
    return options


def pretraining(recipe: Any, tokenizer: Path, request: Request) -> Plan:
    """Return the plan of a pretraining recipe; `tokenizer` stands for the one that it names."""
    keys = KEYS["pretraining"]
    full, schedule = request.full_size, recipe.schedule
    per_epoch = request.images / recipe.batch_size
    full_steps = schedule.steps or round(schedule.epochs * per_epoch)
    warmup = schedule.warmup_steps
    warmup = round(schedule.warmup_epochs * per_epoch) if warmup is None else warmup
    batch = recipe.batch_size if full else 4 * request.processes
    options = common("pretraining", request, warmup, batch)
    arch_args = small_net(recipe.arch, recipe.arch_args, full)
    if not full:
        options |= {keys["arch_args"]: arch_args, keys["device_batch"]: 2, "pictures": 2}
        options["image_size"] = IMAGE_PX[kind_of(recipe.arch)]
        if recipe.method.name != "beit":
            options["decoder_width"] = 64
    if recipe.method.name == "beit":
        options |= _tokenizer_options(recipe.method.tokenizer, tokenizer, full)
    options, notes = precision_of("pretraining", options, str(recipe.precision), request)
    return Plan(options, batch, full_steps, recipe.arch, arch_args, notes)


def _tokenizer_options(named: str, made: Path, full: bool) -> dict[str, Any]:
    """Return a made tokenizer for one that the recipe names; short training for one of its own."""
    if named:
        return {"tokenizer": made}
    small = {"tokenizer_n_hid": 8, "tokenizer_n_init": 8, "tokenizer_vocab_size": 16}
    return {"tokenizer_steps": 3, "tokenizer_batch_size": 4, **({} if full else small)}


def detection(config: Any, data: Any, request: Request) -> Plan:
    """Return the plan of a detection config on the Instances `data`."""
    keys, full = KEYS["detection"], request.full_size
    accumulation = value_at(config, keys["accumulation"])
    own_batch = value_at(config, keys["batch"])
    batch = own_batch if full else 2 * accumulation * request.processes
    steps, warmup = value_at(config, keys["steps"]), value_at(config, keys["warmup"])
    options = common("detection", request, warmup, batch)
    options[keys["milestones"]] = [max(1, request.steps - 1)]
    if value_at(config, keys["precise_bn"]):
        options[keys["precise_bn"]] = 2
    options |= {f"data.{part}": getattr(data, part) for part in data.__dataclass_fields__}
    arch = config.arch or DEFAULT_ARCH
    arch_args = small_net(arch, plain(config.arch_args), full)
    options |= {"arch": arch, keys["arch_args"]: arch_args}
    if not full:
        options |= _small_detector(config)
    options, notes = precision_of("detection", options, config.train.precision, request)
    return Plan(options, batch, steps, arch, arch_args, notes)


def _small_detector(config: Any) -> dict[str, Any]:
    """Return narrow heads, few proposals, and augmentations at a fraction of their pixels."""
    model = config.model
    scale = min(1.0, LONGEST_PX / max(lengths_px(config.input), default=LONGEST_PX))
    options = {
        "model.channels": 16,
        "model.anchor_sizes": [max(4, round(scale * size)) for size in model.anchor_sizes],
        "model.rpn_batch": 32,
        "model.pre_nms_topk": [50, 30],
        "model.post_nms_topk": [30, 20],
        "model.roi_batch": 16,
        "model.box_convs": [8 for _ in model.box_convs],
        "model.box_fcs": [16 for _ in model.box_fcs],
        "model.mask_convs": [8 for _ in model.mask_convs],
        "model.max_detections": 10,
        "input.train": [shrunk(step, scale) for step in config.input.train],
        "input.test": [shrunk(step, scale) for step in config.input.test],
    }
    if model.get("square_pad"):
        options["model.square_pad"] = round(scale * model.square_pad)
    if config.features.window_size:
        options["features.window_size"] = 2
    return options


def detection_tta(config: Any) -> list[str]:
    """Return the options of test-time augmentation: the config's own, or two sizes and flips."""
    edges = [edge for step in plain(config.input.test) for edge in lengths_px(step)]
    longest = int(max(edges, default=640))
    own = value_at(config, KEYS["detection"]["tta"])
    sizes = [longest // 2, 3 * longest // 4]
    settings = plain(own) if own else {"sizes": sizes, "max_size": longest, "flip": True}
    # views are merged by plain NMS
    return [f"{KEYS['detection']['tta']}={as_text(settings)}", "model.soft_nms=None"]


def segmentation(config: Any, data_root: Path, request: Request) -> Plan:
    """Return the plan of a segmentation config on label maps below `data_root`."""
    keys, full = KEYS["segmentation"], request.full_size
    batch = config["batch_size"]
    if not full:
        batch = 2 * config[keys["accumulation"]] * request.processes
    steps, warmup = config[keys["steps"]], config[keys["warmup"]]
    options = common("segmentation", request, warmup, batch)
    options |= {"data_root": data_root, keys["allow"]: "counts"}
    if not config["classes"]:
        options["classes"] = "ground,thing"
    arch = config["arch"] or DEFAULT_ARCH
    arch_args = small_net(arch, plain(config["arch_args"]), full)
    options |= {"arch": arch, keys["arch_args"]: arch_args}
    if not full:
        options |= _small_segmentor(config)
    options, notes = precision_of("segmentation", options, str(config.get("precision")), request)
    return Plan(options, batch, steps, arch, arch_args, notes)


def _small_segmentor(config: Any) -> dict[str, Any]:
    """Return narrow heads and small crops."""
    long, short = config["scale"]
    share = CROP_PX / max(config["crop_size"])
    options: dict[str, Any] = {
        "crop_size": (CROP_PX, CROP_PX),
        "scale": (round(share * long), round(share * short)),
        "head_channels": 8,
        "aux_channels": 8,
    }
    if config.get("stride"):
        options["stride"] = tuple(round(share * px) for px in config["stride"])
    if config.get("image_size"):
        options["image_size"] = CROP_PX
    for name in ("decode_head", "auxiliary_head"):
        heads = config["model"][name] or []  # a linear classifier has no auxiliary head
        places = [f"{name}.{i}" for i in range(len(heads))] if isinstance(heads, list) else [name]
        for place, head in zip(places, heads if isinstance(heads, list) else [heads], strict=True):
            if isinstance(head.get("channels"), int):  # "${head_channels}" elsewhere, or none
                options[f"model.{place}.channels"] = 8
    return options


def precision_of(
    family: Family, options: dict[str, Any], own: str, request: Request
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return options that a CPU can do: fp16 is a GPU's, and bf16 the nearest thing to it."""
    if own != "fp16" or request.on_gpu:
        return options, ()
    return {**options, KEYS[family]["precision"]: "bf16"}, ("bf16 for fp16",)


def hours(plan: Plan, step_seconds: float) -> float:
    """Return the hours of the config's whole schedule, without evaluation."""
    return plan.full_steps * step_seconds / 3600
