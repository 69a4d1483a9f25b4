"""What the output folder of a run says about it, and the log it keeps."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from pretrain.run.folder import TEXT_LOG
from pretrain.run.log import LogFile
from transfer.detection.build import plain
from transfer.detection.config import protocol_of
from transfer.detection.prepare import Run
from transfer.weights import transfer_arch_args

PATHS = "paths"  # what run.json says of where the data lies, which may move
NOT_PATHS = ("name", "root", "train_share")  # of the settings of the data


def identity_of(setup: Run) -> dict[str, Any]:
    """Return what the run is, as JSON values: a resumed run must have the same."""
    report = setup.detector.report
    return {
        "protocol": protocol_of(setup.config),
        "weights": report.sha256 if report else "none",
        "arch": setup.detector.features.arch,
        "arch_args": backbone_args(setup),
        "pixels": asdict(setup.detector.pixels),
        "seed": setup.config.seed,
        "accumulation_steps": setup.config.train.accumulation_steps,
        "data": {
            "name": setup.config.data.name,
            "train_sha256": setup.train.file.sha256,
            "val_sha256": setup.val.file.sha256,
        },
        PATHS: {k: v for k, v in plain(setup.config.data).items() if k not in NOT_PATHS},
    }


def about_run(setup: Run) -> dict[str, Any]:
    """Return what is needed to build the detector again without config and encoder file."""
    features = setup.detector.features
    return {
        "identity": json.dumps(identity_of(setup)),
        "arch": features.arch,
        "arch_args": features.arch_args,
        "pixels": asdict(setup.detector.pixels),
    }


@contextmanager
def logged_to(out: Path) -> Iterator[None]:
    """Write what is logged to out/log.txt as well (first process)."""
    if not comm.is_main_process():
        yield
        return
    loggers = [logging.getLogger(name) for name in ("detectron2", "transfer")]
    handler = LogFile(out / TEXT_LOG)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def backbone_args(setup: Run) -> dict[str, Any]:
    """Return timm's arguments, equal for a pretrained encoder and the same net from scratch."""
    features = setup.detector.features
    return transfer_arch_args(features.arch, features.arch_args)
