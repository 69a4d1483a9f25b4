"""What a config says, whatever files it is spread over: the settings that can change a number.

Paths, file names, devices and workers are left out, so that a suite moved to another folder or
machine finds its steps finished.
"""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

Settings = dict[str, Any]
DATA_ROOT = "DETECTRON2_DATASETS"
NETWORK = ("arch", "arch_args", "fresh", "unused")  # of what the protocols leave out


@contextlib.contextmanager
def data_root(root: Path | None) -> Iterator[None]:
    """Let configs find their datasets under `root`; None leaves the environment as it is."""
    before = os.environ.get(DATA_ROOT)
    if root is not None:
        os.environ[DATA_ROOT] = str(root)
    try:
        yield
    finally:
        if root is not None:
            os.environ.pop(DATA_ROOT)
            if before is not None:
                os.environ[DATA_ROOT] = before


@lru_cache(maxsize=256)
def pretrain_settings(config: Path, words: tuple[str, ...]) -> tuple[Settings, str]:
    """Return a recipe with the tool's `words` applied, and the tokenizer's file, "" for none.

    Raises ValueError for words that are wrong.
    """
    from pretrain.command import parse
    from pretrain.config import BeitSettings

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            recipe = parse([str(config), *words])[1].recipe
    except SystemExit as error:
        text = said.getvalue().translate(_FRAMES).partition("For full helptext")[0]
        lines = " ".join(re.sub("-{3,}", " ", text).split())
        raise ValueError(f"{config.name} does not take {' '.join(words)}: {lines}") from error
    settings = recipe.to_json()
    settings.pop("run")
    has_tokenizer = isinstance(recipe.method, BeitSettings)
    return settings, settings["method"].pop("tokenizer") if has_tokenizer else ""


_FRAMES = {ord(c): " " for c in "╭╮╰╯─│"}  # that tyro draws around its messages


@lru_cache(maxsize=256)
def task_settings(
    kind: str, config: Path, options: tuple[str, ...], root: Path | None
) -> tuple[Settings, dict[str, Path]]:
    """Return the settings of a task's config with `options`, and its data: role -> path.

    Raises ValueError, as the task's own tool does, for a config or an option that is wrong.
    """
    if kind not in _TASKS:
        raise ValueError(f"suites cannot run {kind} yet; they can run {' and '.join(_TASKS)}")
    with data_root(root):
        return _TASKS[kind](config, options)


def _detection(config: Path, options: Sequence[str]) -> tuple[Settings, dict[str, Path]]:
    from omegaconf import OmegaConf

    from transfer.detection.config import load_config, protocol_of

    resolved = load_config(config, list(options))
    network: Any = OmegaConf.to_container(OmegaConf.masked_copy(resolved, list(NETWORK)))
    roles = ("train_json", "train_images", "val_json", "val_images")
    data = {f"data.{role}": Path(resolved.data[role]) for role in roles}
    return {**protocol_of(resolved), **network, "dataset": resolved.data.name}, data


def _segmentation(config: Path, options: Sequence[str]) -> tuple[Settings, dict[str, Path]]:
    from transfer.segmentation.config import fill_in, load_config, protocol

    resolved = load_config(config, options)
    network = {key: _plain(resolved[key]) for key in (*NETWORK, "dataset")}
    filled = fill_in(resolved)
    root = Path(filled["data_root"])
    roles = ("train_images", "train_labels", "val_images", "val_labels")
    return {**protocol(resolved), **network}, {role: root / filled[role] for role in roles}


@lru_cache(maxsize=64)
def finetune_settings(config: Path, options: tuple[str, ...]) -> Settings:
    """Return the settings of a fine-tuning. Raises ValueError for an option that is wrong."""
    from transfer.classification.config import load_config
    from transfer.results.protocol import without

    settings = without(load_config(config, options).to_json(), NOT_OF_FINETUNING)
    return _as_before_interpolation(settings)


def _as_before_interpolation(settings: Settings) -> Settings:
    """Leave out the bicubic interpolation: steps older than the setting stay what they are."""
    from transfer.results.protocol import without

    bicubic = settings["images"]["interpolation"] == "bicubic"
    return without(settings, ["images.interpolation"]) if bicubic else settings


# what a stage is made from, and how it is watched
NOT_OF_FINETUNING = ("weights", "weights_source", "allow_findings", "run", "seed")


def _classification(config: Path, options: Sequence[str]) -> tuple[Settings, dict[str, Path]]:
    return finetune_settings(config, tuple(options)), {}


def _probe(_: Path, options: Sequence[str]) -> tuple[Settings, dict[str, Path]]:
    from transfer.classification.probe_config import probing
    from transfer.results.protocol import without

    settings = json.loads(json.dumps(asdict(probing(options))))
    return _as_before_interpolation(without(settings, NOT_OF_PROBES)), {}


NOT_OF_PROBES = ("weights_source", "test_batch_size", "device", "workers", "seed")

_TASKS: dict[str, Callable[[Path, Sequence[str]], tuple[Settings, dict[str, Path]]]] = {
    "detection": _detection,
    "segmentation": _segmentation,
    "classification": _classification,
    "probe": _probe,
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
