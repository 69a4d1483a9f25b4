"""What a segmentation run's record says: its training, and what was measured."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

from pretrain.files.lineage import method_of, read_stages
from pretrain.run.batch_norm import images_per_statistic
from pretrain.run.provenance import command_line, peak_memory_mib
from transfer.results.protocol import budget_notes, protocol_hash
from transfer.results.record import (
    Cost,
    Dataset,
    Environment,
    Origin,
    Result,
    Training,
    describe_environment,
    fields_of,
)
from transfer.segmentation.config import load_config
from transfer.segmentation.protocol import origin_of, protocols
from transfer.segmentation.runner import TransferRunner

EVALUATOR = f"ExactIoU, mim-transfer {metadata.version('mim-transfer')}"


def known_before_training(cfg: Config, filled: Config, runner: TransferRunner) -> dict[str, Any]:
    """Return what a new run's records will say, as JSON values."""
    model = runner.unwrapped_model
    norm_images = images_per_statistic(model, filled["device_batch"], get_world_size())
    settings = protocols(cfg, filled, norm_images)
    origin = made_from(cfg, filled, norm_images)
    return {
        "command": command_line(get_world_size()),
        "devices": get_world_size(),
        "train": settings.train,
        "eval_hash": protocol_hash(settings.eval),
        "config": origin.model_dump() if origin else None,
        "environment": describe_environment(device_of(runner)).model_dump(),
        "notes": budget_notes(filled["budget"], filled["max_iters"]),
        "dataset": {
            "name": filled["dataset"] or Path(filled["data_root"]).resolve().name,
            "train_images": settings.train["data"]["images"],
            "val_images": settings.eval["data"]["images"],
            "classes": list(filled["classes"]),
        },
    }


def made_from(cfg: Config, filled: Config, norm_images: int | None) -> Origin | None:
    """Return the shipped config that a run was made from, and what it changed."""
    shipped = load_config(cfg.filename)
    shipped.merge_from_dict({key: cfg[key] for key in ("data_root", "classes")})
    found = origin_of(cfg, shipped, filled, norm_images)
    return Origin(**found) if found else None


def device_of(runner: TransferRunner) -> torch.device:
    """Return the device that the network is on."""
    return next(runner.unwrapped_model.parameters()).device


def record(
    cfg: Config,
    filled: Config,
    identity: Mapping[str, Any],
    runner: TransferRunner,
    metrics: Mapping[str, float],
) -> Result:
    """Return the record of a finished run."""
    cost = Cost(
        hours=runner.seconds / 3600,
        devices=identity["record"].get("devices"),
        images_per_second=runner.images_per_second(filled["batch_size"]),
        peak_memory_mib=peak_memory_mib(device_of(runner)),
    )
    training = training_of(identity, notes=runner.notes, cost=cost)
    settings = protocols(cfg, filled, None).eval
    return Result(**fields_of(training), **measured(settings, runner, metrics))


def training_of(identity: Mapping[str, Any], *, notes: list[str], cost: Cost) -> Training:
    """Return what a run's records say of its training; `identity` is what its folder holds."""
    report, known = identity["report"], identity["record"]
    stages = read_stages(report["identity"]["stages"] if report else [])
    return Training(
        task="segmentation",
        method=method_of(stages),
        stages=list(stages),
        backbone=identity["arch"],
        backbone_args=identity["arch_args"],
        weights=report,
        dataset=Dataset(**known["dataset"]),
        train=known["train"],
        train_hash=protocol_hash(known["train"]),
        config=Origin(**known["config"]) if known["config"] else None,
        seed=identity["seed"],
        command=known.get("command"),
        cost=cost,
        environment=Environment(**known["environment"]),
        notes=[*notes, *known["notes"]],
    )


def cost_of_state(state: Mapping[str, Any], identity: Mapping[str, Any]) -> Cost:
    """Return what a run took until its state was saved."""
    seconds, batch = state["train_seconds"], identity["record"]["train"]["batch_size"]
    speed = state["updates"] * batch / seconds if seconds else None
    devices = identity["record"].get("devices")
    return Cost(hours=state["seconds"] / 3600, images_per_second=speed, devices=devices)


def measured(
    settings: dict[str, Any], runner: TransferRunner, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Return the fields of a record that the evaluation fills."""
    return {
        "eval": settings,
        "eval_hash": protocol_hash(settings),
        "metrics": {name: metrics[name] for name in ("mIoU", "mAcc", "aAcc")},
        "per_class": runner.per_class,
        "evaluator": EVALUATOR,
        "evaluated_at": datetime.now(UTC).replace(microsecond=0),
    }
