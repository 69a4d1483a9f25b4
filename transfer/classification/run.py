"""One fine-tuning from a config: check, build, train, evaluate, record, encoder file."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from pretrain.files.encoder_file import write_encoder
from pretrain.run.folder import ENCODER, PREDICTIONS_PICTURE, RECORD, RunFolder
from pretrain.run.from_first import do_in_first
from pretrain.run.lock import locked
from pretrain.run.loop import Loop
from pretrain.run.processes import is_first_process, launch
from pretrain.run.stop import Stopped
from transfer.classification.classifier import Classifier
from transfer.classification.config import ConfigError, FineTuning
from transfer.classification.evaluate import Accuracy, evaluate
from transfer.classification.pictures import draw
from transfer.classification.predictions import write_predictions
from transfer.classification.prepare import Run, place, prepare
from transfer.classification.protocol import identity_of, protocols
from transfer.classification.record import identity_after, made_from, measured, training_of
from transfer.classification.trained import NAME, Trained, read_trained, write_trained
from transfer.classification.trainer import ClassifierTraining
from transfer.classification.trial import try_end
from transfer.results.protocol import differing, protocol_hash
from transfer.results.record import (
    Result,
    fields_of,
    origin_of_evaluation,
    write_evaluation,
    write_result,
)

logger = logging.getLogger(__name__)


def product_of(config: FineTuning) -> str:
    """Return the file that a run ends in: its record, or without evaluation the encoder."""
    return RECORD if config.evaluate else ENCODER


def run(
    config: FineTuning, data: Path, out: Path, *, file: Path | None = None, resume: bool = False
) -> Accuracy | None:
    """Train and evaluate; record and encoder file end in `out`. None if nothing was evaluated.

    `file` is the config's. Everything that can be refused is refused before the first step, and
    leaves nothing behind. Raises ValueError, NotFiniteError, and Stopped after a signal, once the
    state is saved.
    """
    folder = RunFolder(out, product_of(config))
    with folder.lock(is_first_process()):
        if resume and folder.finished:
            logger.info("%s is finished already", out)
            return None
        fabric = launch(config.run.device, config.precision)
        folder.require_free(resume)
        fabric.barrier()  # nobody writes there before everybody has looked
        made = prepare(config, file, data, out, fabric)
        identity = identity_of(made)
        folder.require_same_run(identity)
        training = ClassifierTraining(made)
        loop = Loop(fabric, training, training.settings(), out, resume)
        if not loop.done:
            do_in_first(fabric, lambda: try_end(made, loop))
        if fabric.is_global_zero:
            folder.begin(identity)
        fabric.barrier()
        loop.run()
        if loop.late_signal:  # saved, and evaluations are long
            raise Stopped(loop.late_signal)
        return finish(made, loop)


def finish(made: Run, loop: Loop) -> Accuracy | None:
    """Evaluate the trained classifier; write the encoder file, the classifier and the record."""
    accuracy = None
    if made.config.evaluate:
        accuracy = evaluate(made.fabric, loop.trained, made.val, made.built.pixels, made.config)
    if made.fabric.is_global_zero:
        trained = loop.trained
        assert isinstance(trained, Classifier)
        encoder = made.out / ENCODER
        write_encoder(encoder, trained.encoder_state(), identity_after(made, loop.done))
        logger.info("encoder: %s", encoder)
        if accuracy is not None:
            training = training_of(made, loop)
            write_trained(made.out / NAME, made, trained, training)
            show(made, accuracy, made.out)
            write_result(Result(**fields_of(training), **measured(made, accuracy)), made.out)
    made.fabric.barrier()
    return accuracy


def show(made: Run, accuracy: Accuracy, folder: Path) -> None:
    """Write the predictions on the validation images into `folder`, and a picture of them."""
    write_predictions(folder, accuracy.predictions, made.val)
    draw(made.val, accuracy.predictions, folder / PREDICTIONS_PICTURE)


def eval_only(config: FineTuning, data: Path, out: Path, *, file: Path | None = None) -> Accuracy:
    """Evaluate the trained classifier in `out`.

    A finished run gets a record of its own for each other evaluation, evals/HASH.json; what trained
    it is told by the classifier's file. Raises FileNotFoundError if there is none, ConfigError if
    the config's network is another.
    """
    trained = read_trained(out / NAME)
    fabric = launch(config.run.device, "fp32")
    weights = replace(config, weights="none", arch=trained.arch, arch_args=trained.arch_args)
    made = prepare(weights, file, data, out, fabric, trained.classes)
    made = replace(made, built=replace(made.built, pixels=trained.pixels))
    require_same_network(made, trained)
    try:
        made.built.model.load_state_dict(trained.tensors)
    except RuntimeError as error:
        raise ConfigError(f"{out / NAME} does not fit this config's network: {error}") from error
    place(made.built.model, fabric.device)
    with locked(out) if fabric.is_global_zero else nullcontext():
        accuracy = evaluate(fabric, made.built.model, made.val, trained.pixels, config)
        if fabric.is_global_zero and protocol_hash(protocols(made).eval) != trained.eval_hash:
            _write_evaluation(made, trained, accuracy)
    return accuracy


def require_same_network(made: Run, trained: Trained) -> None:
    """Raise ConfigError if the config's network is another than the one that was trained."""
    now = protocols(made).train
    changed = {
        name: values
        for name, values in differing(trained.training.train, now).items()
        if name == "pool"
    }
    if changed:
        told = "; ".join(f"{k}: trained with {a!r}, now {b!r}" for k, (a, b) in changed.items())
        raise ConfigError(f"the classifier was trained as another network ({told})")


def _write_evaluation(made: Run, trained: Trained, accuracy: Accuracy) -> None:
    training = trained.training
    dataset = training.dataset.model_copy(update={"val_images": len(made.val)})
    training = training.model_copy(update={"dataset": dataset})
    fields = {**measured(made, accuracy), "config": origin_of_evaluation(training, made_from(made))}
    path = write_evaluation(training, made.out, **fields)
    show(made, accuracy, path.with_suffix(""))
    logger.info("record: %s", path)
