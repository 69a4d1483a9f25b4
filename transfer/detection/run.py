"""One detection run from a config: check, build, train, evaluate, record."""

import logging
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

from pretrain.files.lineage import read_stages
from pretrain.run.provenance import peak_memory_mib
from transfer.detection import checkpoint
from transfer.detection.build import Detector, build_optimizer, has_frozen_norm, plain, precise_bn
from transfer.detection.config import ConfigError
from transfer.detection.data import test_loader
from transfer.detection.evaluation.evaluator import CocoEvaluator, predict, with_tta
from transfer.detection.evaluation.pictures import write_pictures
from transfer.detection.folder import backbone_args, claim, identity_of, log_to, refuse_occupied
from transfer.detection.log import Writers
from transfer.detection.optimizer import lr_factor
from transfer.detection.prepare import Run, mapper_of, prepare, training_batches
from transfer.detection.protocol import origin_of, protocols, require_same_network
from transfer.detection.trainer import (
    NotFiniteError,
    SaveState,
    Trainer,
    save_last_good,
    stop_on_signals,
)
from transfer.results.protocol import budget_notes, protocol_hash
from transfer.results.record import (
    RECORD_NAME,
    Cost,
    Dataset,
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
from transfer.weights import PixelStats

logger = logging.getLogger(__name__)


def run(config: DictConfig, *, resume: bool = False) -> Result | None:
    """Train and evaluate; the record ends in `config.output_dir`. None on other processes than 0.

    Everything that can be refused is refused before the first step.
    """
    out = Path(config.output_dir)
    if (out / RECORD_NAME).is_file() and resume:
        logger.info("%s is finished already", out)
        return None
    refuse_occupied(out, resume)
    comm.synchronize()  # nobody writes there before everybody has looked
    setup = prepare(config)
    refuse_empty_statistics(setup.detector)
    identity = identity_of(setup)
    claim(out, identity, resume)
    log_to(out)
    setup.detector.model.to(setup.device)
    trainer = train(setup, identity)
    with trainer.averaged():
        _refresh_batchnorm(setup, trainer)
        evaluator, speed = evaluate(setup, out)
        if comm.is_main_process():
            _save_final(setup, trainer, identity)
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
    it is told by the checkpoint. Of an unfinished run nothing is written, at a run at work nothing
    is touched.
    """
    out = Path(config.output_dir)
    path = Path(config.checkpoint or checkpoint.newest(out))
    trained = checkpoint.load(path)
    config.weights = "none"
    pixels = None
    if "arch" in trained:  # saved by `run`
        config.arch, config.arch_args = trained["arch"], trained["arch_args"]
        pixels = PixelStats(**trained["pixels"])
    setup = prepare(config, pixels)
    averaged = trained.get("ema") or {}
    checkpoint.load_model(setup.detector.model, {**trained["model"], **averaged}, path)
    setup.detector.model.to(setup.device)
    former = checkpoint.protocol_of_run(trained)
    steps = former["schedule"]["steps"] if former else 0
    unfinished = trained.get("step", steps) < steps
    training = None if unfinished else checkpoint.training_of(trained)
    if training is not None:
        require_same_network(setup, training.train)
    folder = None if unfinished else _folder_of_evaluation(setup, trained)
    evaluator, _ = evaluate(setup, folder)
    if unfinished:
        logger.warning("unfinished: %d of %d steps; nothing is written", trained["step"], steps)
    elif training is None:
        logger.warning("%s does not say how it was trained; there is no record", path)
    figures = evaluator.metrics
    if folder is not None and training is not None and figures is not None:
        made_from = origin_of_evaluation(training, _origin(setup))
        measured = {**_measured(setup, evaluator), "config": made_from}
        written = write_evaluation(training, out, **measured)
        logger.info("record: %s", written)
    return figures.metrics if figures else {}


def _folder_of_evaluation(setup: Run, trained: dict[str, Any]) -> Path | None:
    """Return where predictions go; None if the run has this evaluation already."""
    own = protocol_hash(protocols(setup).eval)
    if trained.get("eval_hash") == own:
        return None
    return evaluation_path(setup.out, own).with_suffix("")


def make_trainer(setup: Run) -> Trainer:
    """The trainer of a config, on every process, at step 0."""
    config, settings = setup.config, setup.config.train
    model: torch.nn.Module = setup.detector.model
    if settings.compile:
        setup.detector.features.compile()  # the heads' shapes change from image to image
    if comm.get_world_size() > 1:
        ids = [setup.device.index] if setup.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
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


def train(setup: Run, identity: str) -> Trainer:
    """Train to the end of the schedule, from the folder's state where there is one."""
    out, settings = setup.out, setup.config.train
    trainer = make_trainer(setup)
    about = about_run(setup, identity)
    saver = SaveState(out, settings.checkpoint_period, about)
    state = out / checkpoint.STATE_NAME
    if state.is_file():
        trainer.load_state_dict(checkpoint.load(state))
        logger.info("continuing after step %d", trainer.done)
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=0), *_evaluation_hook(setup, trainer)])
    steps = setup.config.schedule.steps
    if comm.is_main_process():
        trainer.register_hooks(
            [Writers(out, done=trainer.done, steps=steps, period=settings.log_period)]
        )
    trainer.register_hooks([saver])  # last: a saved step is in the log
    try:
        with stop_on_signals(trainer):
            trainer.train(trainer.done, steps)
    except NotFiniteError as error:
        kept = save_last_good(trainer, out, about)
        last = f"step {trainer.done} is kept in {state}" if kept else f"see {state} for the last"
        raise NotFiniteError(f"{error}. The last good state, {last}") from None
    return trainer


def about_run(setup: Run, identity: str) -> dict[str, Any]:
    """Return what is needed to build the detector again without config and encoder file."""
    features = setup.detector.features
    return {
        "identity": identity,
        "arch": features.arch,
        "arch_args": features.arch_args,
        "pixels": asdict(setup.detector.pixels),
    }


def evaluate(setup: Run, out: Path | None) -> tuple[CocoEvaluator, float]:
    """Predict the validation images, save the predictions below `out` (if any), evaluate them."""
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


def record(setup: Run, evaluator: CocoEvaluator, trainer: Trainer) -> Result:
    """Return the run's result; what it cost counts all resumed parts."""
    training = training_of(setup, trainer)
    return Result(**fields_of(training), **_measured(setup, evaluator))


def training_of(setup: Run, trainer: Trainer) -> Training:
    """Return what the record says of the training."""
    config, detector = setup.config, setup.detector
    settings = protocols(setup)
    images = trainer.done * config.train.batch
    stages = detector.report.identity["stages"] if detector.report else []
    return Training(
        task="detection",
        method=_method(detector),
        stages=list(read_stages(stages)),
        backbone=detector.features.arch,
        backbone_args=backbone_args(setup),
        weights=detector.report.to_json() if detector.report else None,
        dataset=Dataset(
            name=config.data.name,
            train_images=settings.train["data"]["images"],
            val_images=settings.eval["data"]["images"],
            classes=setup.val.classes,
        ),
        train=settings.train,
        train_hash=protocol_hash(settings.train),
        config=_origin(setup),
        seed=config.seed,
        cost=Cost(
            hours=trainer.seconds / 3600,
            images_per_second=images / trainer.seconds if trainer.seconds else None,
            peak_memory_mib=peak_memory_mib(setup.device),
        ),
        environment=describe_environment(setup.device),
        notes=[*detector.notes, *budget_notes(config.budget, config.schedule.steps)],
    )


def _origin(setup: Run) -> Origin | None:
    found = origin_of(setup)
    return Origin(**found) if found else None


def _measured(setup: Run, evaluator: CocoEvaluator) -> dict[str, Any]:
    """Return the fields of a record that the evaluation fills."""
    metrics, settings = evaluator.metrics, protocols(setup).eval
    assert metrics is not None  # evaluated on this process
    return {
        "eval": settings,
        "eval_hash": protocol_hash(settings),
        "metrics": metrics.metrics,
        "per_class": metrics.per_class,
        "evaluator": metrics.evaluator,
    }


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


def _save_final(setup: Run, trainer: Trainer, identity: str) -> None:
    """Save the trained detector, which stands alone."""
    final = {
        "model": trainer.bare.state_dict(),
        "step": trainer.done,
        **about_run(setup, identity),
        "training": training_of(setup, trainer).model_dump_json(),
        "eval_hash": protocol_hash(protocols(setup).eval),
    }
    checkpoint.save(final, setup.out / checkpoint.FINAL_NAME)


def _method(detector: Detector) -> str:
    return detector.report.identity["method"] if detector.report else "scratch"
