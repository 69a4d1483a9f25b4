"""One detection run from a config: check, build, train, evaluate, record."""

import logging
from contextlib import nullcontext
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig

from pretrain.run.folder import RECORD, RunFolder
from pretrain.run.lock import locked
from pretrain.run.loop import Loop
from pretrain.run.provenance import peak_memory_mib
from pretrain.run.stop import Stopped
from transfer.detection import checkpoint
from transfer.detection.build import Detector, has_frozen_norm, place, precise_bn
from transfer.detection.config import ConfigError, protocol_of
from transfer.detection.evaluation.evaluate import evaluate
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.evaluation.pictures import write_pictures
from transfer.detection.folder import PATHS, about_run, backbone_args, identity_of, logged_to
from transfer.detection.prepare import Run, prepare, training_batches
from transfer.detection.processes import start_processes
from transfer.detection.trainer import DetectorTraining
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
    _save_final(setup, loop)
    logger.info("evaluated at %.1f images/s", speed)
    result = record(setup, evaluator, loop)
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
    """Evaluate the detector of `config.checkpoint` (default: the folder's own); never a record.

    Of an unfinished run nothing is written; of a finished one predictions and figures, into a
    folder of their own, where the settings are not the run's. A run at work is not touched.
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
    now, former = protocol_of(config), checkpoint.protocol_of_run(trained)
    changed = None if former is None else changed_settings(former, now)
    steps = former["schedule"]["steps"] if former else 0
    unfinished = trained.get("step", steps) < steps
    folder = None if unfinished or changed == {} else out / f"eval-{protocol_hash(now)}"
    with locked(folder) if folder and comm.is_main_process() else nullcontext():
        evaluator, _ = evaluate(setup, setup.detector.model, folder)
        figures = evaluator.metrics
        if folder is not None and figures is not None:
            write_evaluation(
                folder, metrics=figures.metrics, per_class=figures.per_class,
                evaluator=figures.evaluator, changed=changed,
            )  # fmt: skip
    if unfinished:
        logger.warning("unfinished: %d of %d steps; nothing is written", trained["step"], steps)
    return figures.metrics if figures else {}


def record(setup: Run, evaluator: CocoEvaluator, loop: Loop) -> Result:
    """The run's result; what it cost counts all resumed parts."""
    config, detector, metrics = setup.config, setup.detector, evaluator.metrics
    assert metrics is not None  # evaluated on this process
    protocol = protocol_of(config)
    images = loop.done * config.train.batch_size
    return Result(
        task="detection",
        method=_method(detector),
        backbone=detector.features.arch,
        backbone_args=backbone_args(setup),
        weights=detector.report.to_json() if detector.report else None,
        dataset=Dataset(
            name=config.data.name,
            train_images=len(setup.train.records.trainable()),
            val_images=len(setup.val.records),
            classes=setup.val.classes,
        ),
        protocol=protocol,
        protocol_hash=protocol_hash(protocol),
        seed=config.seed,
        metrics=metrics.metrics,
        per_class=metrics.per_class,
        evaluator=metrics.evaluator,
        cost=Cost(
            hours=loop.seconds / 3600,
            images_per_second=images / loop.seconds if loop.seconds else None,
            peak_memory_mib=peak_memory_mib(setup.device),
        ),
        environment=describe_environment(setup.device),
        notes=list(detector.notes),
    )


def _refresh_batchnorm(setup: Run, loop: Loop) -> None:
    """PreciseBN on the batches that would come next."""
    count = setup.config.test.precise_bn
    if count:
        torch.manual_seed(setup.config.seed)
        with EventStorage():
            precise_bn(loop.trained.train(), training_batches(setup, loop.done), count)


def _save_final(setup: Run, loop: Loop) -> None:
    """Save the trained detector, which stands alone."""
    final = {"model": loop.trained.state_dict(), "step": loop.done, **about_run(setup)}
    checkpoint.save(final, setup.out / checkpoint.FINAL_NAME)


def _method(detector: Detector) -> str:
    return detector.report.identity["method"] if detector.report else "scratch"
