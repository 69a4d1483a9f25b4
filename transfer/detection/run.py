"""One detection run from a config: check, build, train, evaluate, record."""

import json
import logging
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch.nn.parallel import DistributedDataParallel

from pretrain.files.training_state import read_state
from pretrain.run.folder import RECORD, STATE, RunFolder
from pretrain.run.lock import locked
from pretrain.run.stop import NotFiniteError, Stopped, stop_on_signals
from transfer.detection import checkpoint
from transfer.detection.build import (
    Detector,
    build_optimizer,
    has_frozen_norm,
    place,
    plain,
    precise_bn,
)
from transfer.detection.config import ConfigError
from transfer.detection.data import test_loader
from transfer.detection.evaluation.evaluator import CocoEvaluator, predict, with_tta
from transfer.detection.evaluation.pictures import write_pictures
from transfer.detection.folder import PATHS, identity_of, logged_to
from transfer.detection.log import Writers
from transfer.detection.optimizer import lr_factor
from transfer.detection.prepare import Run, mapper_of, prepare, training_batches
from transfer.detection.protocol import protocols, require_same_network
from transfer.detection.record import made_from, measured, record, training_of
from transfer.detection.trainer import SaveState, Trainer, save_last_good
from transfer.results.protocol import protocol_hash
from transfer.results.record import (
    Result,
    Training,
    evaluation_path,
    origin_of_evaluation,
    write_evaluation,
    write_result,
)
from transfer.weights import PixelStats

logger = logging.getLogger(__name__)


def run(config: DictConfig, *, resume: bool = False) -> Result | None:
    """Train and evaluate; the record ends in `config.output_dir`. None on other processes than 0.

    Everything that can be refused is refused before the first step, and leaves nothing behind.
    """
    folder = RunFolder(Path(config.output_dir), RECORD, free=(PATHS,))
    with folder.lock(comm.is_main_process()):
        if resume and folder.finished:
            logger.info("%s is finished already", folder.path)
            return None
        folder.require_free(resume)
        comm.synchronize()  # nobody writes there before everybody has looked
        setup = prepare(config)
        refuse_empty_statistics(setup.detector)
        identity = identity_of(setup)
        folder.require_same_run(identity)
        place(setup.detector.model, setup.device)
        trainer = make_trainer(setup)
        if (setup.out / STATE).is_file():
            trainer.load_state_dict(read_state(setup.out / STATE, checkpoint.KIND))
        if comm.is_main_process():
            folder.begin(identity)
        comm.synchronize()
        with logged_to(setup.out):
            train(setup, trainer)
            return finish(setup, trainer)


def finish(setup: Run, trainer: Trainer) -> Result | None:
    """Evaluate the trained detector and write the record; None on other processes than 0."""
    out = setup.out
    with trainer.averaged():
        _refresh_batchnorm(setup, trainer)
        evaluator, speed = evaluate(setup, out)
        if comm.is_main_process():
            _save_final(setup, trainer)
    if not comm.is_main_process():
        return None
    logger.info("evaluated at %.1f images/s", speed)
    result = record(setup, evaluator, trainer)
    write_pictures(setup.val, out, setup.config.test.pictures)
    write_result(result, out)
    return result


def refuse_empty_statistics(detector: Detector) -> None:
    """ConfigError for a frozen BatchNorm without weights: it would fix its initial values."""
    if detector.report is None and has_frozen_norm(detector.features.encoder):
        raise ConfigError(
            "a frozen BatchNorm keeps the statistics of a weights file, and from scratch there is "
            "none: set backbone_norm=BN and freeze_stages=0, or for few images a batch another "
            'norm, as arch_args={"norm_layer":"groupnorm"} for ResNets'
        )


def eval_only(config: DictConfig) -> dict[str, float]:
    """Evaluate the detector of `config.checkpoint` (default: the folder's own).

    A finished run gets a record of its own for each other evaluation, evals/HASH.json; what trained
    it is told by the checkpoint. Of an unfinished run nothing is written, a run at work is not
    touched.
    """
    out = Path(config.output_dir)
    path = Path(config.checkpoint or checkpoint.newest(out))
    trained = checkpoint.load(path)
    config.weights = "none"
    pixels = None
    if "arch" in trained:  # saved by `run`
        config.arch, config.arch_args = trained["arch"], trained["arch_args"]
        pixels = PixelStats(**trained["pixels"])
    setup = prepare(config, pixels, training=False)
    averaged = trained.get("ema") or {}
    checkpoint.load_model(setup.detector.model, {**trained["model"], **averaged}, path)
    place(setup.detector.model, setup.device)
    former = checkpoint.protocol_of_run(trained)
    steps = former["schedule"]["steps"] if former else 0
    unfinished = trained.get("step", steps) < steps
    training = None if unfinished else checkpoint.training_of(trained)
    if training is not None:
        require_same_network(setup, training.train)
    folder = None if unfinished else _folder_of_evaluation(setup, trained)
    with locked(folder) if folder and comm.is_main_process() else nullcontext():
        evaluator, _ = evaluate(setup, folder)
        figures = evaluator.metrics
        if folder is not None and training is not None and figures is not None:
            _write_evaluation(setup, training, evaluator)
    if unfinished:
        logger.warning("unfinished: %d of %d steps; nothing is written", trained["step"], steps)
    elif training is None:
        logger.warning("%s does not say how it was trained; there is no record", path)
    return figures.metrics if figures else {}


def _folder_of_evaluation(setup: Run, trained: dict[str, Any]) -> Path | None:
    """Return where predictions go; None if the run has this evaluation already."""
    own = protocol_hash(protocols(setup).eval)
    if trained.get("eval_hash") == own:
        return None
    return evaluation_path(setup.out, own).with_suffix("")


def _write_evaluation(setup: Run, training: Training, evaluator: CocoEvaluator) -> None:
    config = origin_of_evaluation(training, made_from(setup))
    fields = {**measured(setup, evaluator), "config": config}
    logger.info("record: %s", write_evaluation(training, setup.out, **fields))


def make_trainer(setup: Run) -> Trainer:
    """The trainer of a config, on every process, at step 0."""
    config, settings = setup.config, setup.config.train
    model: torch.nn.Module = setup.detector.model
    if settings.compile:
        setup.detector.features.compile()  # the heads' shapes change from image to image
    if comm.get_world_size() > 1:
        ids = [setup.device.index] if setup.device.type == "cuda" else None
        # as Detectron2: each process keeps its own BatchNorm statistics
        model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
    schedule = plain(config.schedule)
    return Trainer(
        model,
        partial(training_batches, setup),
        build_optimizer(config, setup.detector.model, setup.detector.features.arch),
        lambda step: lr_factor(step, **schedule),
        seed=config.seed,
        accumulate=settings.accumulate,
        amp=settings.amp,
        clip_norm=settings.clip_norm,
        ema=settings.ema,
    )


def train(setup: Run, trainer: Trainer) -> None:
    """Train to the end of the schedule. Raises NotFiniteError, and Stopped after a signal."""
    out, settings = setup.out, setup.config.train
    about = about_run(setup)
    saver = SaveState(out, settings.checkpoint_period, about)
    if trainer.done:
        logger.info("continuing after step %d", trainer.done)
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=0), *_evaluation_hook(setup, trainer)])
    steps = setup.config.schedule.steps
    if comm.is_main_process():
        trainer.register_hooks(
            [Writers(out, done=trainer.done, steps=steps, period=settings.log_period)]
        )
    trainer.register_hooks([saver])  # last: a saved step is in the log
    try:
        with stop_on_signals() as trainer.stop_request:
            trainer.train(trainer.done, steps)
        if trainer.stop_request.signal:  # after the last step, which saved the state
            raise Stopped(trainer.stop_request.signal)
    except NotFiniteError as error:
        kept, state = save_last_good(trainer, out, about), out / STATE
        last = f"step {trainer.done} is kept in {state}" if kept else f"see {state} for the last"
        raise NotFiniteError(f"{error}. The last good state, {last}") from None


def about_run(setup: Run) -> dict[str, Any]:
    """Return what is needed to build the detector again without config and encoder file."""
    features = setup.detector.features
    return {
        "identity": json.dumps(identity_of(setup)),
        "arch": features.arch,
        "arch_args": features.arch_args,
        "pixels": asdict(setup.detector.pixels),
    }


def evaluate(setup: Run, out: Path | None) -> tuple[CocoEvaluator, float]:
    """Predict the validation images, save the predictions below `out` (if any), evaluate them.

    All processes evaluate with the first one's BatchNorm statistics: those that are saved.
    """
    if comm.get_world_size() > 1:
        for buffer in setup.detector.model.buffers():
            torch.distributed.broadcast(buffer, 0)
    tasks = ("bbox", "segm") if setup.config.model.masks else ("bbox",)
    settings = setup.config.test
    evaluator = CocoEvaluator(
        setup.val, out, tasks=tasks, engine=settings.engine,
        max_detections=setup.config.model.max_detections,
    )  # fmt: skip
    loader = test_loader(
        setup.val.records, mapper_of(setup, training=False), batch=settings.batch,
        workers=setup.config.train.workers,
    )  # fmt: skip
    model: torch.nn.Module = setup.detector.model
    if settings.tta is not None:
        model = with_tta(setup.detector.model, **plain(settings.tta))
    speed = predict(model, loader, evaluator)
    evaluator.evaluate()
    return evaluator, speed


def _evaluation_hook(setup: Run, trainer: Trainer) -> list[hooks.EvalHook]:
    period = setup.config.train.eval_period
    if not period:
        return []

    def test() -> dict[str, float]:
        with trainer.averaged():
            evaluator, _ = evaluate(setup, setup.out / "eval")
        return evaluator.metrics.metrics if evaluator.metrics else {}

    class Every(hooks.EvalHook):
        """Detectron2's hook without its evaluation after training: `run` does that one."""

        def after_train(self) -> None:
            return

    return [Every(period, test)]


def _refresh_batchnorm(setup: Run, trainer: Trainer) -> None:
    """PreciseBN on the batches that would come next."""
    count = setup.config.test.precise_bn
    if count:
        torch.manual_seed(setup.config.seed)
        with EventStorage():
            precise_bn(trainer.bare, training_batches(setup, trainer.done), count)


def _save_final(setup: Run, trainer: Trainer) -> None:
    """Save the trained detector, which stands alone."""
    final = {
        "model": trainer.bare.state_dict(),
        "step": trainer.done,
        **about_run(setup),
        "training": training_of(setup, trainer).model_dump_json(),
        "eval_hash": protocol_hash(protocols(setup).eval),
    }
    checkpoint.save(final, setup.out / checkpoint.FINAL_NAME)
