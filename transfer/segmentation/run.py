"""One segmentation run: config -> training -> evaluation -> WORK_DIR/result.json."""

import json
import resource
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from pretrain.files.lineage import method_of, read_stages
from pretrain.files.write import atomic_write, remove_unfinished
from pretrain.run.batch_norm import has_batch_norm, images_per_statistic
from transfer.results.protocol import budget_notes, protocol_hash
from transfer.results.record import (
    Cost,
    Dataset,
    Environment,
    Origin,
    Result,
    Training,
    describe_environment,
    evaluation_path,
    fields_of,
    origin_of_evaluation,
    write_evaluation,
    write_result,
)
from transfer.segmentation.config import fill_in, load_config, protocol, steps_of
from transfer.segmentation.data import check_data
from transfer.segmentation.iou import PREDICTIONS, score_folder
from transfer.segmentation.launch import join_processes
from transfer.segmentation.optimizer import NotFiniteError
from transfer.segmentation.pictures import draw_predictions
from transfer.segmentation.protocol import origin_of, protocols
from transfer.segmentation.run_folder import LAST
from transfer.segmentation.runner import (
    TransferRunner,
    build_runner,
    net_of,
    read_about,
    read_state,
)
from transfer.segmentation.safe_files import close_doors
from transfer.segmentation.segmentor import set_pixels
from transfer.weights.identity import PixelStats, transfer_arch_args

PICTURE = "predictions.png"
EVALUATOR = f"ExactIoU, mim-transfer {metadata.version('mim-transfer')}"


def run(
    cfg: Config, work_dir: Path, *, resume: bool = False, launcher: str = "none"
) -> Result | None:
    """Train and evaluate; the record, or None where SIGTERM came first.

    ValueError and FileNotFoundError for whatever is wrong with config, data or weights, before
    training; NotFiniteError where the loss stops being a number.
    """
    close_doors()
    world_size = join_processes(launcher)
    last = work_dir / LAST
    former = read_about(last) if resume and last.is_file() else None
    if former:
        require_same_run(cfg, former, work_dir)
    net = net_of(former) if former else {}
    filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
    if former is None and is_main_process():
        check_data(filled)
    if is_main_process():
        remove_unfinished(work_dir)
    runner = build_runner(filled, work_dir, launcher)
    if filled["device_batch"] * world_size < 2 and has_batch_norm(runner.core):
        raise ValueError(
            "one image a forward pass has no batch statistics for BatchNorm: raise batch_size, or "
            "lower accumulation"
        )
    runner.about = former or about_run(cfg, filled, runner)
    if former and filled["pixels"] == "weights":
        set_pixels(runner.core.data_preprocessor, PixelStats(**former["pixels"]))
    write_config(filled, work_dir)
    train(runner, last if former else None)
    if runner.stopped:
        return None
    metrics = runner.evaluate()
    result = record(cfg, filled, runner, metrics)
    if is_main_process():
        runner.load_weights(read_state(last))  # the average, where one is kept
        draw_predictions(runner.core, runner.val_dataloader.dataset, work_dir / PICTURE, 4)
        write_result(result, work_dir)
    return result


def evaluate(cfg: Config, work_dir: Path, *, launcher: str = "none") -> dict[str, float]:
    """Evaluate WORK_DIR/last.pth.

    A finished run gets a record of its own for each other evaluation, evals/HASH.json; what trained
    it is told by its state. Of an unfinished run, which may be at work, there is only a picture, in
    WORK_DIR/eval-unfinished.
    """
    close_doors()
    world_size = join_processes(launcher)
    state = read_state(work_dir / LAST)  # once: a run at work replaces it
    about = json.loads(state["meta"]["about"])
    net = {**net_of(about), "ema": None}  # last.pth holds the average as the weights
    filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
    step = state["meta"]["iter"] // about["protocol"]["accumulation"]
    steps = steps_of(about["protocol"])
    settings = protocols(cfg, filled, None).eval
    own = about.get("eval_hash") == protocol_hash(settings)
    folder = evaluation_folder(work_dir, settings, finished=step >= steps, own=own)
    runner = build_runner(filled, folder, launcher)
    if filled["pixels"] == "weights":
        set_pixels(runner.core.data_preprocessor, PixelStats(**about["pixels"]))
    runner.load_weights(state)
    metrics = runner.evaluate()
    if step < steps:
        runner.logger.warning(f"unfinished: {step} of {steps} steps; there is no record")
    if is_main_process():
        draw_predictions(runner.core, runner.val_dataloader.dataset, folder / PICTURE, 4)
        if step >= steps and not own:
            training = training_of(about, notes=[], cost=cost_of_state(state, about))
            made_from = origin_of_evaluation(training, made_from_config(cfg, filled, None))
            found = {**measured(settings, runner, metrics), "config": made_from}
            write_evaluation(training, work_dir, **found)
    return metrics


def evaluation_folder(
    work_dir: Path, settings: dict[str, Any], *, finished: bool, own: bool
) -> Path:
    """Return where --eval-only writes: the run's own folder only for its own evaluation."""
    if not finished:
        return work_dir / "eval-unfinished"
    other = evaluation_path(work_dir, protocol_hash(settings)).with_suffix("")
    return work_dir if own else other


def score(cfg: Config, work_dir: Path) -> dict[str, float]:
    """The figures of the label maps saved in WORK_DIR/predictions (save_predictions=True)."""
    filled = fill_in(cfg)
    with DefaultScope.overwrite_default_scope("mmseg"):
        data = DATASETS.build(filled["val_dataloader"]["dataset"])
    return score_folder(work_dir / PREDICTIONS, data)


def about_run(cfg: Config, filled: Config, runner: TransferRunner) -> dict[str, Any]:
    """What a later process must know: to go on with the same run, or to evaluate it."""
    backbone = runner.core.backbone
    return {
        "protocol": protocol(cfg),
        "seed": cfg["seed"],
        "weights": str(cfg["weights"]),
        "arch": backbone.arch,
        "arch_args": transfer_arch_args(backbone.arch, backbone.arch_args),
        "pixels": asdict(backbone.pixels),
        "report": backbone.report.to_json() if backbone.report else None,
        **about_record(cfg, filled, runner),
    }


def about_record(cfg: Config, filled: Config, runner: TransferRunner) -> dict[str, Any]:
    """Return what the run's records say that is known before training."""
    norm_images = images_per_statistic(runner.core, filled["device_batch"], get_world_size())
    settings = protocols(cfg, filled, norm_images)
    made_from = made_from_config(cfg, filled, norm_images)
    return {
        "train": settings.train,
        "eval_hash": protocol_hash(settings.eval),
        "config": made_from.model_dump() if made_from else None,
        "environment": describe_environment(device_of(runner)).model_dump(),
        "notes": budget_notes(filled["budget"], filled["max_iters"]),
        "dataset": {
            "name": filled["dataset"] or Path(filled["data_root"]).resolve().name,
            "train_images": settings.train["data"]["images"],
            "val_images": settings.eval["data"]["images"],
            "classes": list(filled["classes"]),
        },
    }


def made_from_config(cfg: Config, filled: Config, norm_images: int | None) -> Origin | None:
    """Return the shipped config that a run was made from, and what it changed."""
    shipped = load_config(cfg.filename)
    shipped.merge_from_dict({key: cfg[key] for key in ("data_root", "classes")})
    found = origin_of(cfg, shipped, filled, norm_images)
    return Origin(**found) if found else None


def device_of(runner: TransferRunner) -> torch.device:
    """Return the device that the network is on."""
    return next(runner.core.parameters()).device


def require_same_run(cfg: Config, former: dict[str, Any], work_dir: Path) -> None:
    """ValueError where the run to resume was started with other settings."""
    new = json.loads(json.dumps({**protocol(cfg), "seed": cfg["seed"], "weights": cfg["weights"]}))
    old = {**former["protocol"], "seed": former["seed"], "weights": former["weights"]}
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        listed = "; ".join(f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in sorted(changed))
        raise ValueError(f"the run in {work_dir} was started with other settings: {listed}")


def write_config(filled: Config, work_dir: Path) -> None:
    """WORK_DIR/config.json: every setting as it was used."""
    if is_main_process():
        text = json.dumps(filled.to_dict(), indent=1, default=str)
        atomic_write(work_dir / "config.json", lambda path: path.write_text(text))


def train(runner: TransferRunner, last: Path | None) -> None:
    """Train to the end, to SIGTERM, or to a loss that is not finite."""
    if last is not None:
        runner._resume, runner._load_from = True, str(last)
    try:
        runner.train()
    except NotFiniteError as error:
        state = runner.work_dir + "/" + LAST
        kept = f"{state} holds the last good state" if Path(state).is_file() else "nothing is saved"
        images = ", ".join(runner.batch_images)
        raise NotFiniteError(
            f"step {runner.iter + 1}: {error} on {images}. Look at these images, lower lr, or set "
            f"clip_grad=dict(max_norm=1.0) or amp=False; {kept}"
        ) from error


def record(
    cfg: Config, filled: Config, runner: TransferRunner, metrics: dict[str, float]
) -> Result:
    """Return the result record of a finished run."""
    cost = Cost(
        hours=runner.seconds / 3600,
        images_per_second=runner.images_per_second(filled["batch_size"]),
        peak_memory_mib=peak_memory_mib(device_of(runner)),
    )
    training = training_of(runner.about, notes=runner.notes, cost=cost)
    settings = protocols(cfg, filled, None).eval
    return Result(**fields_of(training), **measured(settings, runner, metrics))


def training_of(about: dict[str, Any], *, notes: list[str], cost: Cost) -> Training:
    """Return what a run's records say of its training."""
    report = about["report"]
    stages = read_stages(report["identity"]["stages"] if report else [])
    return Training(
        task="segmentation",
        method=method_of(stages),
        stages=list(stages),
        backbone=about["arch"],
        backbone_args=about["arch_args"],
        weights=report,
        dataset=Dataset(**about["dataset"]),
        train=about["train"],
        train_hash=protocol_hash(about["train"]),
        config=Origin(**about["config"]) if about["config"] else None,
        seed=about["seed"],
        cost=cost,
        environment=Environment(**about["environment"]),
        notes=[*notes, *about["notes"]],
    )


def cost_of_state(state: dict[str, Any], about: dict[str, Any]) -> Cost:
    """Return what the run took until its last state was saved."""
    meta, batch = state["meta"], about["train"]["batch_size"]
    seconds = meta["train_seconds"]
    speed = meta["updates"] * batch / seconds if seconds else None
    return Cost(hours=meta["seconds"] / 3600, images_per_second=speed)


def measured(
    settings: dict[str, Any], runner: TransferRunner, metrics: dict[str, float]
) -> dict[str, Any]:
    """Return the fields of a record that the evaluation fills."""
    return {
        "eval": settings,
        "eval_hash": protocol_hash(settings),
        "metrics": {name: metrics[name] for name in ("mIoU", "mAcc", "aAcc")},
        "per_class": runner.per_class,
        "evaluator": EVALUATOR,
    }


def peak_memory_mib(device: torch.device) -> float:
    """Of the device; of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
