"""The output folder of a run: never another run's, and what is in it says which run it is."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from pretrain.files.write import atomic_write, remove_unfinished
from transfer.detection.build import plain
from transfer.detection.config import ConfigError, protocol_of
from transfer.detection.prepare import Run
from transfer.weights import transfer_arch_args

RUN_NAME = "run.json"  # what the folder's run is, for --resume to compare with
PATHS = "paths"  # its key of where the data lies, which may move


def refuse_occupied(out: Path, resume: bool) -> None:
    """ValueError for a folder that holds something, unless it is to be resumed."""
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"the output folder {out} is not empty: give another output_dir, or --resume"
        )


def identity_of(setup: Run) -> str:
    """What the run is, as JSON: a resumed run must have the same."""
    report = setup.detector.report
    return json.dumps(
        {
            "protocol": protocol_of(setup.config),
            "weights": report.sha256 if report else "none",
            "arch": setup.detector.features.arch,
            "pixels": asdict(setup.detector.pixels),
            "arch_args": backbone_args(setup),
            "seed": setup.config.seed,
            "accumulate": setup.config.train.accumulate,
            "data": {
                "name": setup.config.data.name,
                "train_sha256": setup.train.file.sha256,
                "val_sha256": setup.val.file.sha256,
            },
            PATHS: {k: v for k, v in plain(setup.config.data).items() if k not in ("name", "root")},
        },
        indent=1,
        sort_keys=True,
    )


def claim(out: Path, identity: str, resume: bool) -> None:
    """Note in the folder which run it holds; ConfigError when it holds another one.

    Clears what a killed process left half-written.
    """
    path = out / RUN_NAME
    if resume and path.is_file():
        there, now = (json.loads(text) for text in (path.read_text(), identity))
        there[PATHS] = now[PATHS] = None
        differing = _differences(there, now)
        if differing:
            raise ConfigError(
                f"{out} holds another run; what differs (there -> now): {'; '.join(differing)}. "
                "Give another output_dir"
            )
    if comm.is_main_process():
        remove_unfinished(out)
        atomic_write(path, lambda p: p.write_text(identity + "\n"))
    comm.synchronize()


def log_to(out: Path) -> None:
    """Write what is logged to out/log.txt as well (first process)."""
    if not comm.is_main_process():
        return
    handler = logging.FileHandler(out / "log.txt")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    for name in ("detectron2", "transfer"):
        logging.getLogger(name).addHandler(handler)


def backbone_args(setup: Run) -> dict[str, Any]:
    """timm's arguments, equal for a pretrained encoder and the same net from scratch."""
    features = setup.detector.features
    return transfer_arch_args(features.arch, features.arch_args)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [
            line
            for n in names
            for line in _differences(old.get(n), new.get(n), f"{key}.{n}" if key else n)
        ]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]
