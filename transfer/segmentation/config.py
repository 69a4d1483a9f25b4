"""A config: MMEngine's files with `_base_`, and knobs at the top that reach everywhere.

MMEngine copies values when a file is read, so that changing a number at the top of a config on the
command line would not change where it is used. Here a value "${name}" stands for the top-level key
`name`, and is filled in after the command line has had its say.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pretrain.run.options import coerce_like, did_you_mean, parse_key_value
from transfer.segmentation.data import class_names

ROOT = Path(__file__).resolve().parent.parent.parent


CONFIGS = ROOT / "configs" / "segmentation"


# What a run is called, where it lies and how it is watched changes no number; weights and seed are
# what the runs of one protocol differ in.
NOT_PROTOCOL = (
    "weights", "arch", "arch_args", "fresh", "unused", "seed", "dataset", "allow_findings",
    "data_root", "train_images", "train_labels", "val_images", "val_labels", "image_suffix",
    "label_suffix", "workers", "log_interval", "save_interval", "default_scope", "custom_hooks",
    "save_predictions", "tensorboard",
)  # fmt: skip


def load_config(path: Path | str, options: Sequence[str] = ()) -> Config:
    """Read a config file and apply `key=value` options; nothing is filled in yet."""
    path = Path(path)
    if not path.is_file():
        names = [p.stem for p in CONFIGS.glob("*.py")]
        near = did_you_mean(path.stem, names, count=3) or f"; there are {', '.join(sorted(names))}"
        raise FileNotFoundError(f"no config at {path} nor in configs/segmentation{near}")
    with python_files_only():
        cfg = Config.fromfile(str(path))
    for option in options:
        apply_option(cfg, option)
    return cfg


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
    """A copy in which every "${name}" is its value, ready for MMEngine's Runner.

    Besides the config's own keys there are num_classes, palette, evaluation_pipeline,
    forward_passes and warmup_passes (steps * accumulation), and device_batch, the images of one
    forward pass of one process: batch_size = device_batch * world_size * accumulation.
    """
    values = {key: cfg[key] for key in cfg}
    if not values["data_root"]:
        raise ValueError("data_root is not set: --cfg-options data_root=FOLDER")
    names, palette = class_names(values["classes"])
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"classes needs at least two different names, got {list(names)}")
    values |= {"classes": names, "palette": palette, "num_classes": len(names)}
    values |= _budget(values) | _batches(values, world_size)
    values["evaluation_pipeline"] = _views(values)
    filled = {key: _fill(value, values) for key, value in values.items()}
    return Config(with_tuples(filled), filename=cfg.filename)


def _budget(values: Mapping[str, Any]) -> dict[str, Any]:
    """The length of the run that `budget` stands for."""
    budget, steps, warmup = (values[k] for k in ("budget", "max_iters", "warmup_iters"))
    if budget == "full":
        changed = {}
    elif budget == "quarter":
        changed = {"max_iters": steps // 4, "warmup_iters": warmup // 4}
    elif budget == "debug":
        changed = {"max_iters": 20, "warmup_iters": min(warmup, 5), "log_interval": 5,
                   "save_interval": 10, "val_limit": 8}  # fmt: skip
    else:
        raise ValueError(f"budget must be full, quarter or debug, got {budget!r}")
    steps, warmup = (changed.get(k, values[k]) for k in ("max_iters", "warmup_iters"))
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup_iters={warmup} must lie between 0 and max_iters={steps}")
    passes = {
        "forward_passes": steps * values["accumulation"],
        "warmup_passes": warmup * values["accumulation"],
    }
    return {**changed, **passes}


def steps_of(settings: Mapping[str, Any]) -> int:
    """Return the optimizer steps of a run with these settings, its budget worked in."""
    return _budget(settings)["forward_passes"] // settings["accumulation"]


def _batches(values: Mapping[str, Any], world_size: int) -> dict[str, int]:
    total, accumulation = values["batch_size"], values["accumulation"]
    if total % (world_size * accumulation):
        raise ValueError(
            f"batch_size={total} cannot be divided among {world_size} processes with "
            f"accumulation={accumulation}"
        )
    return {"device_batch": total // (world_size * accumulation)}


def _views(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluation pipeline: the test pipeline, or all ratios with their mirror images."""
    if values["views"] == "single":
        return values["test_pipeline"]
    if values["views"] != "multiscale":
        raise ValueError(f"views must be single or multiscale, got {values['views']!r}")
    load, _, *rest = values["test_pipeline"]
    resizes = [_resize(values, ratio) for ratio in values["test_ratios"]]
    flips = [{"type": "RandomFlip", "prob": p, "direction": "horizontal"} for p in (0.0, 1.0)]
    views = [resizes, flips, *([transform] for transform in rest)]
    return [load, {"type": "TestTimeAug", "transforms": views}]


def _resize(values: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    long, short = (int(side * ratio) for side in values["scale"])
    if values["test_resize"] == "keep_ratio":
        return {"type": "Resize", "scale": (long, short), "keep_ratio": True}
    if values["test_resize"] == "at_least_crop":
        least = max(min(values["crop_size"]), short)
        return {"type": "ResizeShortestEdge", "scale": least, "max_size": 10**6}
    raise ValueError(
        f"test_resize must be keep_ratio or at_least_crop, got {values['test_resize']!r}"
    )


def protocol(cfg: Config) -> dict[str, Any]:
    """Every setting of an unfilled config that may change the figures (NOT_PROTOCOL does not)."""
    kept = {key: _plain(cfg[key]) for key in cfg if key not in NOT_PROTOCOL}
    names, _ = class_names(cfg["classes"])
    return {**kept, "config": Path(cfg.filename).stem, "classes": list(names)}


def _fill(value: Any, values: Mapping[str, Any], seen: tuple[str, ...] = ()) -> Any:
    if isinstance(value, Mapping):
        return {k: _fill(v, values, seen) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fill(v, values, seen) for v in value)
    if not (isinstance(value, str) and value.startswith("${") and value.endswith("}")):
        return value
    name = value[2:-1]
    if name not in values or name in seen:
        raise ValueError(f"the config refers to {value}, which does not exist or is circular")
    return _fill(values[name], values, (*seen, name))


def with_tuples(value: Any) -> Any:
    """Lists of numbers as tuples: what JSON forgets and MMCV insists on for sizes."""
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
            raise ValueError(f"the config has no key {key!r}{did_you_mean(key, _keys(cfg))}")
        if depth < len(parts) - 1:
            node = node[_place(node, part)]
    last = _place(node, parts[-1])
    old = node[last] if _has(node, parts[-1]) else None
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
