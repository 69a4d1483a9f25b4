"""What a segmentation run is: WORK_DIR/run.json, which a resumed run must agree with."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mmengine.config import Config

from pretrain.run.folder import RUN, RunFolder
from transfer.segmentation.config import protocol
from transfer.segmentation.data import folder_pairs, names_digest, pairs_of
from transfer.weights.controls import file_of, sha256_of_weights
from transfer.weights.identity import transfer_arch_args
from transfer.weights.releases import place_of

FREE = (
    "config",
    "report",
    "record",
)  # what a resumed run may change: where things lie, how it is watched
READ_LATER = (
    *("arch", "arch_args", "built_arch_args", "pixels", "protocol", "report", "seed"),
    "weights",
)
RECORDED = ("config", "dataset", "environment", "eval_hash", "notes", "train")  # in "record"


def identity_of(cfg: Config, filled: Config, backbone: Any) -> dict[str, Any]:
    """Return what a new run is, as JSON values.

    `cfg` as loaded, `filled` as filled in, `backbone` with its weights.
    """
    report = backbone.report
    return {
        **_settings(cfg, filled),
        "weights": report.sha256 if report else "none",
        "arch": backbone.arch,
        "arch_args": transfer_arch_args(backbone.arch, backbone.arch_args),
        "built_arch_args": json.loads(json.dumps(backbone.arch_args)),
        "pixels": asdict(backbone.pixels),
        "report": report.to_json() if report else None,
        "config": filled.to_dict(),
    }


def identity_of_former(folder: RunFolder) -> dict[str, Any]:
    """Return what a folder says of the run that it holds.

    Raises ValueError if it does not say all that a record needs, as those of older versions do.
    """
    former = folder.settings()
    missing = [key for key in READ_LATER if key not in former]
    record = former.get("record")
    known = record if isinstance(record, Mapping) else {}
    missing += [f"record.{key}" for key in RECORDED if key not in known]
    if missing:
        raise ValueError(
            f"{folder.path / RUN} is of an older format, without {', '.join(missing)}, which "
            "records need: use the version that began the run, or train it again"
        )
    return former


def identity_of_resumed(cfg: Config, filled: Config, former: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `cfg` asks for, where the net is the former run's unless `cfg` names another.

    The weights file is not needed any more: the state holds all weights.
    """
    given: dict[str, Any] = {"weights": _weights(str(cfg["weights"]), cfg["seed"], former)}
    if cfg["arch"] is not None:
        given["arch"] = cfg["arch"]
    if cfg["arch_args"]:
        given["arch_args"] = transfer_arch_args(cfg["arch"] or former["arch"], cfg["arch_args"])
    return {**former, **_settings(cfg, filled), **given}


def architecture_of(former: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that build a former run's net, to be filled from its state.

    `arch_args` tells the record's network, without the image size of a pretraining; position
    parameters have the shapes of the arguments it was built with.
    """
    net = {"arch": former["arch"], "arch_args": former["built_arch_args"]}
    return {"weights": "none", "fresh": [], "unused": [], **net}


def _settings(cfg: Config, filled: Config) -> dict[str, Any]:
    train, _ = folder_pairs(filled)
    return {
        "protocol": protocol(cfg),
        "seed": cfg["seed"],
        "accumulation_steps": cfg["accumulation_steps"],
        "training_images": names_digest(pairs_of(train), train.images),
    }


def _weights(weights: str, seed: int, former: Mapping[str, Any]) -> str:
    """Return the digest of the weights, "none", or what names them if their file is not there."""
    file = file_of(weights)
    if file is None or place_of(file).is_file():
        return sha256_of_weights(weights, seed)
    report = former["report"]
    known = (weights, str(place_of(file)))
    return former["weights"] if report and report["file"] in known else weights
