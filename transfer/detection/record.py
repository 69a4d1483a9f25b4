"""What a detection run's record says: its training, and what was measured."""

from datetime import UTC, datetime
from typing import Any

from detectron2.utils import comm

from pretrain.files.lineage import method_of, read_stages
from pretrain.run.loop import Loop
from pretrain.run.provenance import command_line, peak_memory_mib
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.folder import backbone_args
from transfer.detection.prepare import Run
from transfer.detection.protocol import origin_of, protocols
from transfer.results.protocol import budget_notes, protocol_hash
from transfer.results.record import (
    Cost,
    Dataset,
    Origin,
    Result,
    Training,
    describe_environment,
    fields_of,
)


def record(setup: Run, evaluator: CocoEvaluator, training: Training) -> Result:
    """Return the record of a training and of its evaluation."""
    return Result(**fields_of(training), **measured(setup, evaluator))


def training_of(setup: Run, loop: Loop) -> Training:
    """Return what the record says of the training; what it cost counts all resumed parts."""
    config, detector = setup.config, setup.detector
    settings = protocols(setup)
    images = loop.done * config.train.batch_size
    stages = read_stages(detector.report.identity["stages"] if detector.report else [])
    return Training(
        task="detection",
        method=method_of(stages),
        stages=list(stages),
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
        config=made_from(setup),
        seed=config.seed,
        command=command_line(comm.get_world_size()),
        cost=Cost(
            hours=loop.seconds / 3600,
            devices=comm.get_world_size(),
            images_per_second=images / loop.seconds if loop.seconds else None,
            peak_memory_mib=peak_memory_mib(setup.device),
        ),
        environment=describe_environment(setup.device),
        notes=[*detector.notes, *budget_notes(config.budget, config.schedule.steps)],
    )


def made_from(setup: Run) -> Origin | None:
    """Return the shipped config that the run was made from, and what it changed."""
    found = origin_of(setup)
    return Origin(**found) if found else None


def measured(setup: Run, evaluator: CocoEvaluator) -> dict[str, Any]:
    """Return the fields of a record that the evaluation fills."""
    metrics, settings = evaluator.metrics, protocols(setup).eval
    assert metrics is not None  # evaluated on this process
    return {
        "eval": settings,
        "eval_hash": protocol_hash(settings),
        "metrics": metrics.metrics,
        "per_class": metrics.per_class,
        "evaluator": metrics.evaluator,
        "evaluated_at": datetime.now(UTC).replace(microsecond=0),
    }
