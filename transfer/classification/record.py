"""What a fine-tuning's record says; the lineage of its encoder file, which names both stages."""

from typing import Any

import timm
import torch

from pretrain import __version__
from pretrain.files.encoder_file import EncoderIdentity
from pretrain.files.lineage import Lineage, Stage, method_of, read_stages
from pretrain.run.loop import Loop
from pretrain.run.provenance import peak_memory_mib, suite_commit
from transfer.classification.evaluate import Accuracy
from transfer.classification.prepare import Run, notes_of
from transfer.classification.protocol import images_of, origin_of, protocols
from transfer.results.protocol import protocol_hash, without
from transfer.results.record import (
    Cost,
    Dataset,
    Origin,
    Training,
    describe_environment,
)
from transfer.weights import transfer_arch_args

# dataset -> how stages call it; it is not called so with another count of images or classes
STAGE_DATA = {"imagenet_1k": "IN1K", "imagenet_22k": "IN22K"}
IMAGES = {"imagenet_1k": 1_281_167}
CLASSES = {"imagenet_22k": 21_841}  # unilm beit/README.md, --nb_classes
EVALUATOR = f"counts of this suite, timm {timm.__version__}'s transforms"
OF_A_RUN = ("seed", "run")  # settings of a recipe that make no other recipe


def training_of(run: Run, loop: Loop) -> Training:
    """Return what the record says of the training; what it cost counts all resumed parts."""
    config, built = run.config, run.built
    settings = protocols(run)
    before = stages_before(run)
    images = loop.done * config.batch_size
    return Training(
        task="classification",
        method=method_of(before),
        stages=list(before),
        backbone=built.model.arch,
        backbone_args=transfer_arch_args(built.model.arch, built.model.arch_args),
        weights=built.report.to_json() if built.report else None,
        dataset=Dataset(
            name=config.dataset,
            train_images=len(run.train),
            val_images=len(run.val),
            classes=list(run.classes),
        ),
        train=settings.train,
        train_hash=protocol_hash(settings.train),
        config=made_from(run),
        seed=config.seed,
        cost=Cost(
            hours=loop.seconds / 3600,
            images_per_second=images / loop.seconds if loop.seconds else None,
            peak_memory_mib=peak_memory_mib(run.fabric.device),
        ),
        environment=describe_environment(run.fabric.device),
        notes=notes_of(run),
    )


def measured(run: Run, accuracy: Accuracy) -> dict[str, Any]:
    """Return the fields of a record that the evaluation fills."""
    settings = protocols(run).eval
    return {
        "eval": settings,
        "eval_hash": protocol_hash(settings),
        "metrics": accuracy.metrics,
        "per_class": accuracy.per_class,
        "evaluator": EVALUATOR,
    }


def made_from(run: Run) -> Origin | None:
    """Return the shipped config that the run was made from, and what it changed."""
    found = origin_of(run)
    return Origin(**found) if found else None


def stages_before(run: Run) -> Lineage:
    """Return the lineage of the weights that the run began with."""
    report = run.built.report
    return read_stages(report.identity["stages"]) if report else ()


def stage_of(run: Run, steps: int) -> Stage:
    """Return this fine-tuning as a stage of the encoder's lineage."""
    config, report = run.config, run.built.report
    epochs = steps / run.length.steps_per_epoch
    return Stage(
        method="supervised",
        data=data_of(run),
        labels=True,
        epochs=int(epochs) if epochs.is_integer() else None,
        steps=steps,
        input_size=config.images.input_size,
        started_from=report.sha256 if report else None,
        seed=config.seed,
    )


def data_of(run: Run) -> str:
    """Return what the stage calls its images: a known name if they are all there."""
    name, train = run.config.dataset, run.train
    whole = len(train) == IMAGES.get(name, len(train))
    if name in STAGE_DATA and whole and len(train.classes) == CLASSES.get(name, len(train.classes)):
        return STAGE_DATA[name]
    return f"{name}, {len(train):,} images {images_of(train)['digest'][:12]}"


def identity_after(run: Run, steps: int) -> EncoderIdentity:
    """Return the identity of the fine-tuned encoder: all stages, and the recipes of both."""
    built, pixels = run.built, run.built.pixels
    stages = (*stages_before(run), stage_of(run, steps))
    return EncoderIdentity(
        arch=built.model.arch,
        arch_args=built.model.arch_args,
        method=method_of(stages),
        stages=stages,
        input_size=run.config.images.input_size,
        pixel_mean=pixels.mean,
        pixel_std=pixels.std,
        color_order=pixels.color_order,
        steps=steps,
        recipe=recipe_of(run),
        suite_version=__version__,
        commit=suite_commit(),
        extra={"precision": run.precision, "torch": torch.__version__, "timm": timm.__version__},
    )


def recipe_of(run: Run) -> dict[str, Any]:
    """Return the settings of the fine-tuning, and those of the weights under "started_from"."""
    train = without(protocols(run).train, ["data.classes"])
    before = without(run.built.recipe, OF_A_RUN)
    return {"name": "finetuning", **train, "started_from": before}
