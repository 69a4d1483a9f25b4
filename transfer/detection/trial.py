"""The end of a detection run on two validation images, before its first step."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pretrain.run.loop import Loop
from pretrain.run.trial import IMAGES, trial
from transfer.detection.data import Split, read_split
from transfer.detection.evaluation.evaluate import evaluate_alone
from transfer.detection.evaluation.pictures import write_pictures
from transfer.detection.prepare import Run
from transfer.detection.record import record, training_of
from transfer.results.record import write_result

ADVICE = "Change what the evaluation depends on (test, input.test, model) or mend the images"


def try_end(setup: Run, loop: Loop) -> None:
    """Evaluate two validation images, write the record and the pictures, and forget them.

    This process needs no other for it. Raises ValueError for what would have failed at the end.
    """
    # compiled for a test image's size, the features would be compiled otherwise for training
    compiled = setup.config.train.compile
    eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    with trial(loop.trained, ADVICE) as folder, eager:
        few = replace(setup, val=few_images(setup.val, folder))
        evaluator = evaluate_alone(few, loop.trained, folder)
        write_result(record(setup, evaluator, training_of(setup, loop)), folder)
        write_pictures(few.val, folder, setup.config.test.pictures)


def few_images(val: Split, folder: Path) -> Split:
    """Return the first images with objects as a split, whose annotations are in `folder`."""
    with_objects = val.file.trainable()
    places = (with_objects if len(with_objects) else np.arange(len(val.records)))[:IMAGES]
    content = {
        "images": [val.file.images[place] for place in places],
        "annotations": [a for place in places for a in val.file.annotations_of(place)],
        "categories": val.file.categories,
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return read_split(val.name, path, val.image_root)
