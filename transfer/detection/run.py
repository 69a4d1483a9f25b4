"""One detection run from a config: check, build, train, evaluate, record."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig

from pretrain.run.folder import RECORD, RunFolder
from pretrain.run.from_first import do_in_first
from pretrain.run.lock import locked
from pretrain.run.loop import Loop
from pretrain.run.stop import Stopped
from transfer.detection import checkpoint
from transfer.detection.build import Detector, has_frozen_norm, place, precise_bn
from transfer.detection.config import ConfigError
from transfer.detection.evaluation.evaluate import evaluate
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.evaluation.pictures import write_pictures
from transfer.detection.folder import PATHS, about_run, identity_of, logged_to
from transfer.detection.prepare import Run, prepare, training_batches
from transfer.detection.processes import start_processes
from transfer.detection.protocol import protocols, require_same_network
from transfer.detection.record import made_from, measured, record, training_of
from transfer.detection.trainer import DetectorTraining
from transfer.detection.trial import try_end
from transfer.results.protocol import protocol_hash
from transfer.results.record import (
    Result,
    Training,
    environment_if_other,
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
    Raises ValueError, NotFiniteError, and Stopped after a signal, once the state is saved.
    """
    fabric = start_processes(config.train.device, config.train.precision)
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
        training = DetectorTraining(setup)
        loop = Loop(fabric, training, training.settings(), setup.out, resume)
        if not loop.done:
            do_in_first(fabric, lambda: try_end(setup, loop))
        if comm.is_main_process():
            folder.begin(identity)
        comm.synchronize()
        loop.run()
        if loop.late_signal:  # saved, and evaluations are long
            raise Stopped(loop.late_signal)
        with logged_to(setup.out):
            return finish(setup, loop)


def finish(setup: Run, loop: Loop) -> Result | None:
    """Evaluate the trained detector and write the record; None on other processes than 0."""
    _refresh_batchnorm(setup, loop)
    evaluator, speed = evaluate(setup, loop.trained, setup.out)
    if not comm.is_main_process():
        return None
    training = training_of(setup, loop)  # taken once: its measured cost is the same in both files
    _save_final(setup, loop, training)
    logger.info("evaluated at %.1f images/s", speed)
    result = record(setup, evaluator, training)
    write_pictures(setup.val, setup.out, setup.config.test.pictures)
    write_result(result, setup.out)
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
    start_processes(config.train.device, "fp32")
    out = Path(config.output_dir)
    path = Path(config.checkpoint or checkpoint.newest(out))
    trained = checkpoint.load(path)
    config.weights = "none"
    pixels = None
    if "arch" in trained:  # saved by `run`
        config.arch, config.arch_args = trained["arch"], trained["arch_args"]
        pixels = PixelStats(**trained["pixels"])
    setup = prepare(config, pixels, training=False)
    checkpoint.load_model(setup.detector.model, trained["model"], path)
    place(setup.detector.model, setup.device)
    former = checkpoint.protocol_of_run(trained)
    steps = former["schedule"]["steps"] if former else 0
    unfinished = trained.get("step", steps) < steps
    training = None if unfinished else checkpoint.training_of(trained)
    if training is not None:
        require_same_network(setup, training.train)
    folder = None if unfinished else _folder_of_evaluation(setup, trained)
    with locked(folder) if folder and comm.is_main_process() else nullcontext():
        evaluator, _ = evaluate(setup, setup.detector.model, folder)
        figures = evaluator.metrics
        if folder is not None and training is not None and figures is not None:
            _write_evaluation(setup, training, evaluator)
    if unfinished:
        logger.warning("unfinished: %d of %d steps; nothing is written", trained["step"], steps)
    elif training is None:
        logger.warning(
            "how %s was trained is not recorded (model_final.pth of a finished run says it, and so "
            "does its state.pt where test.precise_bn is 0); there is no record",
            path,
        )
    return figures.metrics if figures else {}


def _folder_of_evaluation(setup: Run, trained: dict[str, Any]) -> Path | None:
    """Return where predictions go; None if the run has this evaluation already."""
    own = protocol_hash(protocols(setup).eval)
    if trained.get("eval_hash") == own:
        return None
    return evaluation_path(setup.out, own).with_suffix("")


def _write_evaluation(setup: Run, training: Training, evaluator: CocoEvaluator) -> None:
    config = origin_of_evaluation(training, made_from(setup))
    where = environment_if_other(training, setup.device)
    fields = {**measured(setup, evaluator), "config": config, "evaluated_in": where}
    logger.info("record: %s", write_evaluation(training, setup.out, **fields))


def _refresh_batchnorm(setup: Run, loop: Loop) -> None:
    """PreciseBN on the batches that would come next."""
    count = setup.config.test.precise_bn
    if count:
        torch.manual_seed(setup.config.seed)
        with EventStorage():
            precise_bn(loop.trained.train(), training_batches(setup, loop.done), count)


def _save_final(setup: Run, loop: Loop, training: Training) -> None:
    """Save the trained detector, which stands alone."""
    final = {
        "model": loop.trained.state_dict(),
        "step": loop.done,
        **about_run(setup),
        "training": training.model_dump_json(),
        "eval_hash": protocol_hash(protocols(setup).eval),
    }
    checkpoint.save(final, setup.out / checkpoint.FINAL_NAME)
