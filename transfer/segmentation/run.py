"""One segmentation run: config -> training -> evaluation -> WORK_DIR/result.json."""

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from pretrain.files.write import atomic_write, remove_unfinished
from pretrain.run.batch_norm import has_batch_norm
from pretrain.run.provenance import peak_memory_mib
from transfer.results.record import (
    Cost,
    Dataset,
    Result,
    changed_settings,
    describe_environment,
    protocol_hash,
    write_evaluation,
    write_result,
)
from transfer.segmentation.config import fill_in, protocol, steps_of
from transfer.segmentation.data import check_data, find_pairs, folder_pairs
from transfer.segmentation.iou import PREDICTIONS, score_folder
from transfer.segmentation.launch import join_processes
from transfer.segmentation.optimizer import NotFiniteError
from transfer.segmentation.pictures import draw_predictions
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
    runner.about = former or about_run(cfg, runner)
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
    """Evaluate WORK_DIR/last.pth; never a record, which only a run that trained to its end makes.

    With other settings than the run's the figures go to a folder of their own. Of an unfinished
    run, which may be at work, there is only a picture, in WORK_DIR/eval-unfinished.
    """
    close_doors()
    world_size = join_processes(launcher)
    state = read_state(work_dir / LAST)  # once: a run at work replaces it
    about = json.loads(state["meta"]["about"])
    net = {**net_of(about), "ema": None}  # last.pth holds the average as the weights
    filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
    changed = changed_settings(about["protocol"], protocol(cfg))
    step = state["meta"]["iter"] // about["protocol"]["accumulation"]
    steps = steps_of(about["protocol"])
    folder = evaluation_folder(cfg, work_dir, finished=step >= steps, changed=bool(changed))
    runner = build_runner(filled, folder, launcher)
    if filled["pixels"] == "weights":
        set_pixels(runner.core.data_preprocessor, PixelStats(**about["pixels"]))
    runner.load_weights(state)
    metrics = runner.evaluate()
    if step < steps:
        runner.logger.warning(f"unfinished: {step} of {steps} steps; there is no record")
    if is_main_process():
        draw_predictions(runner.core, runner.val_dataloader.dataset, folder / PICTURE, 4)
        if step >= steps and changed:
            write_evaluation(
                folder, metrics=metrics, per_class=runner.per_class, evaluator=EVALUATOR,
                changed=changed,
            )  # fmt: skip
    return metrics


def evaluation_folder(cfg: Config, work_dir: Path, *, finished: bool, changed: bool) -> Path:
    """Where --eval-only writes: the run's own folder only with its own settings, at its end."""
    if not finished:
        return work_dir / "eval-unfinished"
    return work_dir / f"eval-{protocol_hash(protocol(cfg))}" if changed else work_dir


def score(cfg: Config, work_dir: Path) -> dict[str, float]:
    """The figures of the label maps saved in WORK_DIR/predictions (save_predictions=True)."""
    filled = fill_in(cfg)
    with DefaultScope.overwrite_default_scope("mmseg"):
        data = DATASETS.build(filled["val_dataloader"]["dataset"])
    return score_folder(work_dir / PREDICTIONS, data)


def about_run(cfg: Config, runner: TransferRunner) -> dict[str, Any]:
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
    }


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
    """The result record of a finished run."""
    settings, about = protocol(cfg), runner.about
    counts = [
        len(find_pairs(p.images, p.labels, p.image_suffix, p.label_suffix))
        for p in folder_pairs(filled)
    ]
    report = about["report"]
    device = next(runner.core.parameters()).device
    return Result(
        task="segmentation",
        method=report["identity"]["method"] if report else "scratch",
        backbone=about["arch"],
        backbone_args=about["arch_args"],
        weights=report,
        dataset=Dataset(
            name=filled["dataset"] or Path(filled["data_root"]).resolve().name,
            train_images=counts[0],
            val_images=min(counts[1], filled["val_limit"] or counts[1]),
            classes=list(filled["classes"]),
        ),
        protocol=settings,
        protocol_hash=protocol_hash(settings),
        seed=filled["seed"],
        metrics={name: metrics[name] for name in ("mIoU", "mAcc", "aAcc")},
        per_class=runner.per_class,
        evaluator=EVALUATOR,
        cost=Cost(
            hours=runner.seconds / 3600,
            images_per_second=runner.images_per_second(filled["batch_size"]),
            peak_memory_mib=peak_memory_mib(device),
        ),
        environment=describe_environment(device),
        notes=runner.notes,
    )
