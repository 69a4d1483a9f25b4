"""One segmentation run: config -> training -> evaluation -> WORK_DIR/result.json."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from pretrain.files.write import remove_unfinished
from pretrain.run.batch_norm import has_batch_norm
from pretrain.run.folder import PREDICTIONS_PICTURE, RECORD, STATE, RunFolder
from pretrain.run.stop import NotFiniteError, stop_on_signals
from transfer.results.protocol import protocol_hash
from transfer.results.record import (
    Result,
    environment_if_other,
    evaluation_path,
    origin_of_evaluation,
    write_evaluation,
    write_result,
)
from transfer.segmentation.config import fill_in
from transfer.segmentation.data import check_data
from transfer.segmentation.identity import (
    FREE,
    architecture_of,
    identity_of,
    identity_of_former,
    identity_of_resumed,
)
from transfer.segmentation.iou import PREDICTIONS, score_folder
from transfer.segmentation.launch import join_processes
from transfer.segmentation.optimizer import ELSEWHERE
from transfer.segmentation.pictures import draw_predictions
from transfer.segmentation.protocol import protocols
from transfer.segmentation.record import (
    cost_of_state,
    device_of,
    known_before_training,
    made_from,
    measured,
    record,
    training_of,
)
from transfer.segmentation.runner import TransferRunner, build_runner
from transfer.segmentation.safe_files import read_tensors_only
from transfer.segmentation.segmentor import set_pixels
from transfer.segmentation.state import evaluated_weights, load
from transfer.segmentation.trial import try_end
from transfer.weights.identity import PixelStats

logger = logging.getLogger(__name__)


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
        former = identity_of_former(folder) if (work_dir / STATE).is_file() else None
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
            return finish(cfg, filled, identity, runner, metrics)
        finally:
            runner.close_log()


def settle_identity(
    cfg: Config,
    filled: Config,
    runner: TransferRunner,
    former: dict[str, Any] | None,
    folder: RunFolder,
) -> dict[str, Any]:
    """Return what the run is, and let the folder say so once the first step is about to begin.

    ValueError where the folder holds another run.
    """
    if former is None:
        identity = identity_of(cfg, filled, runner.unwrapped_model.backbone)
        identity["record"] = known_before_training(cfg, filled, runner)
    else:
        identity = identity_of_resumed(cfg, filled, former)
    in_first_process(lambda: folder.require_same_run(identity))

    def begin() -> None:
        try_end(cfg, filled, identity, runner)
        folder.begin(identity)

    if former is None:
        runner.when_built = lambda: in_first_process(begin)
    else:
        runner.when_built = lambda: in_first_process(lambda: remove_unfinished(folder.path))
    return identity


def finish(
    cfg: Config,
    filled: Config,
    identity: dict[str, Any],
    runner: TransferRunner,
    metrics: dict[str, float],
) -> Result:
    """Draw the predictions and write the record, in the first process; return the record."""
    work_dir = Path(runner.work_dir)
    result = record(cfg, filled, identity, runner, metrics)
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

    A finished run gets a record of its own for each other evaluation, evals/HASH.json; what trained
    it is told by its folder. Of a state before the end, whose run may be at work, there is only a
    picture, in WORK_DIR/eval-unfinished.
    """
    read_tensors_only()
    world_size = join_processes(launcher)
    state = load(checkpoint or work_dir / STATE)  # once: a run at work replaces it
    former = identity_of_former(RunFolder(work_dir, RECORD))
    net = architecture_of(former)
    filled = fill_in(Config({**cfg, **net}, filename=cfg.filename), world_size)
    settings = protocols(cfg, filled, None).eval
    own = former["record"]["eval_hash"] == protocol_hash(settings)
    step, steps = state["step"], former["protocol"]["max_iters"]
    folder = evaluation_folder(work_dir, settings, finished=step >= steps, own=own)
    with ExitStack() as held:
        in_first_process(lambda: held.enter_context(RunFolder(folder, "evaluated").lock()))
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
            if step >= steps and not own:
                training = training_of(former, notes=[], cost=cost_of_state(state, former))
                config = origin_of_evaluation(training, made_from(cfg, filled, None))
                where = environment_if_other(training, device_of(runner))
                fields = {"config": config, "evaluated_in": where}
                write_evaluation(
                    training, work_dir, **measured(settings, runner, metrics), **fields
                )
    return metrics


def evaluation_folder(
    work_dir: Path, settings: dict[str, Any], *, finished: bool, own: bool
) -> Path:
    """Return where --eval-only writes: the run's folder only for its own evaluation, at its end."""
    if not finished:
        return work_dir / "eval-unfinished"
    other = evaluation_path(work_dir, protocol_hash(settings)).with_suffix("")
    return work_dir if own else other


def score(cfg: Config, work_dir: Path) -> dict[str, float]:
    """Return the figures of the label maps in WORK_DIR/predictions (save_predictions=True)."""
    filled = fill_in(cfg)
    with DefaultScope.overwrite_default_scope("mmseg"):
        data = DATASETS.build(filled["val_dataloader"]["dataset"])
    return score_folder(work_dir / PREDICTIONS, data)


def train(runner: TransferRunner, state: Path | None) -> None:
    """Train to the end, to a signal, or to a loss that is not finite.

    Raises NotFiniteError, with the images of the step and what was saved.
    """
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
