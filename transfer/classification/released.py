"""Classifiers as their authors released them: the test of the authors' code, and a record.

What differs in arithmetic from the authors' code is named in DIFFERENCES.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pretrain.files.read import WeightsError, sha256_of
from pretrain.run.processes import available_cores, is_first_process, launch
from transfer.classification.classifier import Built, Classifier
from transfer.classification.config import ConfigError, FineTuning, Input, checked, override
from transfer.classification.evaluate import Accuracy, evaluate
from transfer.classification.prepare import place
from transfer.classification.protocol import images_of, pixels_to_json, protocols_of
from transfer.classification.record import EVALUATOR, STAGE_DATA
from transfer.datasets.class_split import ClassSplit, open_split
from transfer.results.protocol import protocol_hash
from transfer.results.record import Dataset, Result, describe_environment, fields_of
from transfer.results.released import (
    before_the_task,
    require_no_report,
    training_of_release,
    write_released,
)
from transfer.weights import PixelStats, load_encoder, transfer_arch_args
from transfer.weights.classifiers import ReleasedClassifier, read_classifier, synsets
from transfer.weights.releases import (
    PublishedTop,
    classifiers,
    release_of,
    require_expected_hash,
)

IMAGENET = "imagenet_1k"
OF_THE_FILE = ("arch", "arch_args", "weights", "fresh", "unused", "pool", "head_std")


@dataclass(frozen=True)
class Test:
    """How a code evaluates: crops of `crop_pct` below `large` px, whole images from there on."""

    source: str
    crop_pct: float = 224 / 256
    large: int = 384
    squash: bool = False  # from `large` px on: sides made equal, not the middle square

    def images(self, size: int) -> Input:
        """Return the settings of images of `size` px."""
        large = size >= self.large
        crop_pct = 1.0 if large and not self.squash else self.crop_pct
        return Input(input_size=size, crop_pct=crop_pct, squash=large and self.squash)


UNILM = "microsoft/unilm 768a3c8, beit/datasets.py"
TESTS = {  # family -> the test of its code; bicubic in all of them
    "beit": Test(UNILM),
    "beitv2": Test(UNILM.replace("beit/", "beit2/")),
    "convnext": Test("facebookresearch/ConvNeXt 048efce, datasets.py", squash=True),
    "mae": Test("facebookresearch/mae efb2a80, util/datasets.py", large=225),
    "spark": Test("keyu-tian/SparK a63e386, downstream_imagenet/data.py", 0.95, squash=True),
}
USUAL = Test("assumed: crops of 224 / 256, as most codes; crop_pct=... gives another")
HALF = "the authors' test ran under autocast, here in float32"
DIFFERENCES = {  # family -> what is computed in another way
    "beit": ("relative position indices are computed, not read", HALF),
    "beitv2": ("relative position indices are computed, not read", HALF),
    "mae": (HALF,),
}


def released_config(
    file: ReleasedClassifier, published: PublishedTop | None = None, options: Sequence[str] = ()
) -> FineTuning:
    """Return the settings of the authors' test, with `options` (key=value) applied.

    Raises ConfigError for an option that would change the network.
    """
    images = TESTS.get(file.family, USUAL).images(file.encoder.identity.input_size)
    if published is not None and published.crop_pct is not None:
        images = replace(images, crop_pct=published.crop_pct, squash=False)
    if published is not None and published.interpolation is not None:
        images = replace(images, interpolation=cast("Any", published.interpolation))
    pool = cast("Any", file.pool)
    config = FineTuning(
        dataset="", weights=file.file, images=images, pool=pool, head_std=None, precision="fp32"
    )
    for word in options:
        if word.partition("=")[0].partition(".")[0] in OF_THE_FILE:
            raise ConfigError(f"{word}: the network is the file's; leave the option out")
        config = override(config, word)
    return checked(config)


def read_released(
    path: Path, options: Sequence[str] = ()
) -> tuple[ReleasedClassifier, PublishedTop | None]:
    """Read a file, and what is published of it; weights_source=NAME of `options` is its layout.

    Raises WeightsError where the file is broken, no classifier, or not the one of its name.
    """
    sha256 = sha256_of(path)
    release = release_of(path, sha256)
    require_expected_hash(release, path, sha256)
    stated = [o.partition("=")[2] for o in options if o.startswith("weights_source=")]
    source = stated[-1] if stated else release.source if release else None
    return read_classifier(path, source), classifiers().get(release.name) if release else None


def build_released(file: ReleasedClassifier, config: FineTuning, classes: Sequence[str]) -> Built:
    """Return the network with the file's weights, its outputs in the order of `classes`.

    Raises WeightsError where a tensor has no place or the outputs cannot be told.
    """
    weight, bias = file.last_layer(classes)
    identity = file.encoder.identity
    model = Classifier(identity.arch, identity.arch_args, len(classes), config)
    head = [f"{model.head}.weight", f"{model.head}.bias"]
    report = load_encoder(model, file.encoder, fresh=head)
    left = [name for name in report.fresh if name not in head and "num_batches" not in name]
    lost = [name for name in report.unused if name in file.encoder.origin.values()]
    layer = cast("nn.Linear", model.encoder.get_submodule(model.head))
    if left or lost or layer.weight.shape != weight.shape:
        odd = ", ".join([*left, *lost]) or f"a last layer of {tuple(weight.shape)}"
        raise WeightsError(f"{file.file} ({file.family}) does not fit {identity.arch}: {odd}")
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    report = replace(report, loaded=report.loaded + len(head), fresh=[])
    return Built(model.eval(), report, PixelStats.of(identity), {})


def open_validation(file: ReleasedClassifier, data: Path) -> tuple[ClassSplit, str]:
    """Return the validation images, labelled by the outputs, and who says what these mean.

    Folders of ImageNet-1K's classes are all numbered by its 1,000, were there fewer of them.
    """
    split = open_split(data, "val", None, available_cores())
    if {*split.classes} <= {*synsets(1000)} and file.class_names is not None:
        return open_split(data, "val", synsets(1000), available_cores()), "the folders' WordNet IDs"
    if file.class_names is not None and {*split.classes} <= {*file.class_names}:
        return split, "the folders' WordNet IDs"
    return split, "assumed: the data set's"


def protocol_of(config: FineTuning, split: ClassSplit) -> dict[str, Any]:
    """Return the protocol of an evaluation, as JSON values."""
    return json.loads(json.dumps(protocols_of(config, "fp32", {}, images_of(split)).eval))


def evaluate_released(
    file: ReleasedClassifier,
    config: FineTuning,
    data: Path,
    work_dir: Path,
    published: PublishedTop | None = None,
) -> dict[str, Any]:
    """Evaluate on the validation images; write result.json and return WORK_DIR/released.json.

    Raises ValueError where the folder has one, or the data or the file cannot be used.
    """
    require_no_report(work_dir)
    fabric = launch(config.run.device, config.precision)
    split, order = open_validation(file, data)
    config = replace(config, dataset=config.dataset or _name(split, data))
    built = build_released(file, config, split.classes)
    place(built.model, fabric.device)
    accuracy = evaluate(fabric, built.model, split, built.pixels, config)
    record = record_of(file, config, split, built, accuracy, published)
    found = {
        "file": file.file,
        "sha256": file.encoder.sha256,
        "layout": file.family,
        "config": TESTS.get(file.family, USUAL).source,
        "tensors": file.tensors,
        "class_order": order,
        "pixels": pixels_to_json(built.pixels),
        "differences": DIFFERENCES.get(file.family, ()),
        "metrics": accuracy.metrics,
        "protocol": protocol_of(config, split),
    }
    if is_first_process():
        write_released(record, found, work_dir)
    return found


def record_of(
    file: ReleasedClassifier,
    config: FineTuning,
    split: ClassSplit,
    built: Built,
    accuracy: Accuracy,
    published: PublishedTop | None,
) -> Result:
    """Return the record of an evaluation."""
    assert built.report is not None
    identity = file.encoder.identity
    settings = protocols_of(config, "fp32", {}, images_of(split)).eval
    dataset = Dataset(
        name=config.dataset, train_images=0, val_images=len(split), classes=list(split.classes)
    )
    data = STAGE_DATA.get(config.dataset, config.dataset)
    training = training_of_release(
        "classification",
        dataset,
        describe_environment(next(built.model.parameters()).device),
        len(split) / accuracy.images_per_second,
        report=built.report.to_json(),
        backbone=identity.arch,
        backbone_args=transfer_arch_args(identity.arch, identity.arch_args),
        stages=before_the_task(identity.stages, data),
        named_in=published.named_in if published else None,
        notes=list(DIFFERENCES.get(file.family, ())),
    )
    return Result(
        **fields_of(training),
        eval=settings,
        eval_hash=protocol_hash(settings),
        metrics=accuracy.metrics,
        per_class=accuracy.per_class,
        evaluator=EVALUATOR,
    )


def _name(split: ClassSplit, data: Path) -> str:
    return IMAGENET if split.classes == synsets(1000) else data.resolve().name
