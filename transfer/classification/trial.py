"""The end of a fine-tuning on two validation images, before its first step."""

import time

from pretrain.run.loop import Loop
from pretrain.run.sheet import spread
from pretrain.run.trial import IMAGES, trial
from transfer.classification.data import EvaluationSamples, collate, evaluation_transform
from transfer.classification.evaluate import Accuracy, accuracy_of, count_hits
from transfer.classification.prepare import Run
from transfer.classification.record import identity_after, measured, training_of
from transfer.results.record import Result, fields_of, write_result

ADVICE = "Change what the evaluation depends on (input_size, crop_pct, squash) or mend the images"


def try_end(made: Run, loop: Loop) -> None:
    """Evaluate two validation images, write the record and the encoder's header, and forget them.

    This process needs no other for it. Raises ValueError for what would have failed at the end.
    """
    with trial(loop.trained, ADVICE) as folder:
        identity_after(made, made.length.steps).to_metadata()
        if made.config.evaluate:
            accuracy = evaluate_few(made, loop)
            result = Result(**fields_of(training_of(made, loop)), **measured(made, accuracy))
            write_result(result, folder)


def evaluate_few(made: Run, loop: Loop) -> Accuracy:
    """Return the accuracy on images spread over the validation split."""
    started = time.perf_counter()
    samples = EvaluationSamples(
        made.val, evaluation_transform(made.config.images, made.built.pixels)
    )
    batch = collate([samples[i] for i in spread(len(made.val), IMAGES)])
    assert not isinstance(batch, str)
    hits, said = count_hits(loop.trained, [batch], len(made.classes), made.fabric.device)
    return accuracy_of(hits.cpu(), said.cpu(), made.classes, time.perf_counter() - started)
