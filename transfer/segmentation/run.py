"""One segmentation run: config -> training -> evaluation -> WORK_DIR/result.json."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from pretrain.files.write import remove_unfinished
from pretrain.run.batch_norm import has_batch_norm
from pretrain.run.folder import PREDICTIONS_PICTURE, RECORD, STATE, RunFolder
from pretrain.run.provenance import peak_memory_mib
from pretrain.run.stop import NotFiniteError, stop_on_signals
from transfer.results.record import (
    EVALUATION_NAME,
    Cost,
    Dataset,
    Result,
    changed_settings,
    describe_environment,
    protocol_hash,
    write_evaluation,
    write_result,
)
from transfer.segmentation.config import fill_in, protocol
from transfer.segmentation.data import check_data, find_pairs, folder_pairs
from transfer.segmentation.identity import (
    FREE,
    architecture_of,
    identity_of,
    identity_of_resumed,
)
from transfer.segmentation.iou import PREDICTIONS, score_folder
from transfer.segmentation.launch import join_processes
from transfer.segmentation.optimizer import ELSEWHERE
from transfer.segmentation.pictures import draw_predictions
from transfer.segmentation.runner import TransferRunner, build_runner
from transfer.segmentation.safe_files import read_tensors_only
from transfer.segmentation.segmentor import set_pixels
from transfer.segmentation.state import evaluated_weights, load
from transfer.weights.identity import PixelStats

logger = logging.getLogger(__name__)

EVALUATOR = f"ExactIoU, mim-transfer {metadata.version('mim-transfer')}"


def run(
    cfg: Config, work_dir: Path, *, resume: bool = False, launcher: str = "auto"
) -> Result | None:
    """Train and evaluate; return the record, or None where the run was finished before.

    Everything that can be refused (ValueError, FileNotFoundError) is refused before training and
    leaves nothing behind. Stopped after a signal, with the state saved; NotFiniteError where a loss
    or a weight stops being a number.
    """
    read_tensors_only()
    world_size = join_processes(launcher)
    folder = RunFolder(work_dir, RECORD, FREE)
    with ExitStack() as held:
        in_first_process(lambda: held.enter_context(folder.lock()))
        if resume and folder.finished:
            logger.info("%s is finished already", work_dir)
            return None
        in_first_process(lambda: folder.require_free(resume))
        former = folder.settings() if (work_dir / STATE).is_file() else None
        net = architecture_of(former) if former else {}
        filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
        if former is None:
            in_first_process(lambda: check_data(filled))
        runner = build_runner(filled, work_dir, world_size > 1)
        require_batch_statistics(filled, runner, world_size)
        identity = settle_identity(cfg, filled, runner, former, folder)
        if former and filled["pixels"] == "weights":
            set_pixels(runner.unwrapped_model.data_preprocessor, PixelStats(**former["pixels"]))
        try:
            with stop_on_signals() as runner.stop:
                train(runner, work_dir / STATE if former else None)
                metrics = runner.evaluate()
            return finish(filled, identity, runner, metrics)
        finally:
            runner.close_log()


def settle_identity(
    cfg: Config,
    filled: Config,
    runner: TransferRunner,
    former: dict[str, Any] | None,
    folder: RunFolder,
) -> dict[str, Any]:
    """Return what the run is, once the folder holds it; ValueError where it holds another run."""
    if former is None:
        identity = identity_of(cfg, filled, runner.unwrapped_model.backbone)
    else:
        identity = identity_of_resumed(cfg, filled, former)
    in_first_process(lambda: folder.require_same_run(identity))
    if former is None:
        in_first_process(lambda: folder.begin(identity))
    else:
        in_first_process(lambda: remove_unfinished(folder.path))
    return identity


def finish(
    filled: Config, identity: dict[str, Any], runner: TransferRunner, metrics: dict[str, float]
) -> Result:
    """Draw the predictions and write the record, in the first process; return the record."""
    work_dir = Path(runner.work_dir)
    result = record(filled, identity, runner, metrics)
    if is_main_process():
        runner.load_weights(evaluated_weights(load(work_dir / STATE)))
        data = runner.val_dataloader.dataset
        draw_predictions(runner.unwrapped_model, data, work_dir / PREDICTIONS_PICTURE, 4)
        write_result(result, work_dir)
    return result


def in_first_process(action: Callable[[], Any]) -> None:
    """Do `action` in the first process; what it refuses is refused in all of them."""
    errors: list[Exception | None] = [None]
    if is_main_process():
        try:
            action()
        except (ValueError, OSError) as error:
            errors = [error]
    broadcast_object_list(errors)
    if errors[0] is not None:
        raise errors[0]


def require_batch_statistics(filled: Config, runner: TransferRunner, world_size: int) -> None:
    """Raise ValueError for BatchNorm on one image per forward pass."""
    alone = filled["device_batch"] * world_size < 2
    if alone and has_batch_norm(runner.unwrapped_model):
        raise ValueError(
            "one image per forward pass has no batch statistics for BatchNorm: raise batch_size, "
            "or lower accumulation_steps"
        )


def evaluate(
    cfg: Config, work_dir: Path, *, checkpoint: Path | None = None, launcher: str = "auto"
) -> dict[str, float]:
    """Evaluate WORK_DIR/state.pt or another state of the run, as best.pt; return the figures.

    Never a record, which only a run that trained to its end makes. With other settings than the
    run's the figures go to a folder of their own. Of a state before the end, whose run may be at
    work, there is only a picture, in WORK_DIR/eval-unfinished.
    """
    read_tensors_only()
    world_size = join_processes(launcher)
    state = load(checkpoint or work_dir / STATE)  # once: a run at work replaces it
    former = RunFolder(work_dir, RECORD).settings()
    net = architecture_of(former)
    filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
    changed = changed_settings(former["protocol"], protocol(cfg))
    step, steps = state["step"], former["protocol"]["max_iters"]
    folder = evaluation_folder(cfg, work_dir, finished=step >= steps, changed=bool(changed))
    with ExitStack() as held:
        in_first_process(lambda: held.enter_context(RunFolder(folder, EVALUATION_NAME).lock()))
        runner = build_runner(filled, folder, world_size > 1, training=False)
        if filled["pixels"] == "weights":
            set_pixels(runner.unwrapped_model.data_preprocessor, PixelStats(**former["pixels"]))
        runner.load_weights(evaluated_weights(state))
        metrics = runner.evaluate()
        if step < steps:
            runner.note(f"unfinished: {step} of {steps} steps; there is no record")
        if is_main_process():
            data = runner.val_dataloader.dataset
            draw_predictions(runner.unwrapped_model, data, folder / PREDICTIONS_PICTURE, 4)
            if step >= steps and changed:
                write_evaluation(
                    folder,
                    metrics=metrics,
                    per_class=runner.per_class,
                    evaluator=EVALUATOR,
                    changed=changed,
                )
    return metrics


def evaluation_folder(cfg: Config, work_dir: Path, *, finished: bool, changed: bool) -> Path:
    """Return where --eval-only writes: the run's folder only with its own settings, at its end."""
    if not finished:
        return work_dir / "eval-unfinished"
    return work_dir / f"eval-{protocol_hash(protocol(cfg))}" if changed else work_dir


def score(cfg: Config, work_dir: Path) -> dict[str, float]:
    """Return the figures of the label maps in WORK_DIR/predictions (save_predictions=True)."""
    filled = fill_in(cfg)
    with DefaultScope.overwrite_default_scope("mmseg"):
        data = DATASETS.build(filled["val_dataloader"]["dataset"])
    return score_folder(work_dir / PREDICTIONS, data)


def train(runner: TransferRunner, state: Path | None) -> None:
    """Train to the end, to a signal, or to a loss that is not finite."""
    if state is not None:
        runner._resume, runner._load_from = True, str(state)
    try:
        runner.train()
    except NotFiniteError as error:
        path = Path(runner.work_dir) / STATE
        kept = f"{path} holds the last good state" if path.is_file() else "nothing is saved"
        where = f" on {', '.join(runner.batch_images)}" if str(error) != ELSEWHERE else ""
        step = runner.iter // runner.accumulation_steps + 1
        raise NotFiniteError(
            f"step {step}: {error}{where}. Look at these images, lower lr, or set clip_norm=1.0 or "
            f"precision=fp32; {kept}"
        ) from error


def record(
    filled: Config, identity: dict[str, Any], runner: TransferRunner, metrics: dict[str, float]
) -> Result:
    """Return the record of a finished run."""
    settings = identity["protocol"]
    counts = [
        len(find_pairs(p.images, p.labels, p.image_suffix, p.label_suffix))
        for p in folder_pairs(filled)
    ]
    report = identity["report"]
    device = next(runner.unwrapped_model.parameters()).device
    return Result(
        task="segmentation",
        method=report["identity"]["method"] if report else "scratch",
        backbone=identity["arch"],
        backbone_args=identity["arch_args"],
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
