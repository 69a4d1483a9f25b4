"""Detectors as their authors released them: the config chosen by the file, and the same network.

What differs in arithmetic from the authors' code is named in DIFFERENCES.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyCall
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from pretrain.files.read import WeightsError
from transfer.detection import checkpoint
from transfer.detection.build import place
from transfer.detection.config import load_config
from transfer.detection.evaluation.evaluate import evaluate
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.mmdet import ResizeShortestEdgeByOpenCV
from transfer.detection.prepare import Run, prepare
from transfer.detection.processes import start_processes
from transfer.detection.protocol import MEASURED, protocols
from transfer.detection.record import measured
from transfer.results.record import (
    Dataset,
    Result,
    describe_environment,
    fields_of,
)
from transfer.results.released import require_no_report, training_of_release, write_released
from transfer.weights.detectors import Detector
from transfer.weights.identity import transfer_arch_args
from transfer.weights.releases import ReleasedSegmentor, report_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "detection"
CONFIG_OF = {  # (layout, timm's name) -> the config whose test is theirs
    ("detectron2_resnet", "resnet50"): "resnet50_1x",
    ("detectron2_resnet", "resnet101"): "resnet50_1x",  # the net is the file's
    ("vitdet", "vit_base_patch16_224"): "vit_base_100ep",
    ("vitdet", "vit_large_patch16_224"): "vit_large_100ep",
    ("convnext", "convnext_tiny"): "convnext_tiny_3x",
    ("convnext", "convnext_small"): "convnext_small_3x",
    ("convnext", "convnext_base"): "convnext_base_3x",
    ("convnext", "convnext_large"): "convnext_large_3x",
    ("convnext", "convnext_xlarge"): "convnext_large_3x",  # the net is the file's
    ("mmdet_convnext", "convnext_tiny"): "convnext_tiny_3x",
    ("mmdet_convnext", "convnext_small"): "convnext_small_3x",
    ("mmdet_convnext", "convnextv2_base"): "convnextv2_base_3x",
}
VIT_ARGS = ("class_token", "global_pool", "fc_norm")  # of a ViT without a class token
COCO = 80  # classes
ALWAYS = (
    "anchors are computed, and equal where the file has them",
    "AP is counted by faster-coco-eval, equal to COCO's own code",
)
MMDETECTION = (
    *ALWAYS,
    "a region is on the upper of two pyramid levels from 1e-6 below the limit there, 4e-8 here",
    "proposals of equal sigmoid are in the order of their logits",
    "detections that no pixel is left of are dropped, theirs are counted",
    "half precision there (fp16 or amp), float32 here",
)
DIFFERENCES = {  # layout -> what is computed in another way
    "detectron2_resnet": (*ALWAYS, "on GPUs the backbone runs channels last: equal up to rounding"),
    "vitdet": (
        *ALWAYS,
        "attention runs as one operation, relative positions within its product: equal up to "
        "rounding",
        "the position row of the class token, which is never read, is left out",
    ),
    "convnext": MMDETECTION,
    "mmdet_convnext": MMDETECTION,
}


def config_of(released: Detector) -> Path:
    """Return the shipped config whose test the authors' was. Raises WeightsError if none is."""
    identity = released.encoder.identity
    name = CONFIG_OF.get((released.layout, identity.arch))
    if name is None or {*identity.arch_args} - {*VIT_ARGS} or released.classes != COCO:
        raise WeightsError(
            f"{released.file}: no shipped config is that of {identity.arch} "
            f"{identity.arch_args or ''} ({released.layout}) with {released.classes} classes; say "
            "which one to test it by with --config"
        )
    return CONFIGS / f"{name}.py"


def released_config(
    released: Detector, config: Path | None = None, options: Sequence[str] = ()
) -> DictConfig:
    """Return the config that builds the file's network.

    `config` replaces the one that the file chooses. Raises ValueError for an option that would
    change the network, WeightsError if the file was tested with another NMS than the config's.
    """
    measured = (
        *(f"model.{name}" for name in MEASURED),
        "model.pre_nms_topk",
        "model.post_nms_topk",
    )
    for option in options:
        key = option.partition("=")[0]
        if key.partition(".")[0] not in ("data", "test", "input", "train") and key not in measured:
            raise ValueError(f"{option}: the network is the file's; leave the option out")
    made = load_config(config or config_of(released), list(options), training=False)
    identity = released.encoder.identity
    pixels = released.pixels
    network: dict[str, Any] = {
        "weights": "none",
        "fresh": [],
        "unused": [],
        "arch": identity.arch,
        "arch_args": identity.arch_args,
        "pixels": {
            "mean": list(pixels.mean),
            "std": list(pixels.std),
            "color_order": pixels.color_order,
        },
        "freeze_stages": 0,
        "features.drop_path_rate": 0.0,
        "features.image_size": None,
        **released.options,
    }
    for key, value in network.items():
        OmegaConf.update(made, key, value, merge=False)
    if made.model.arithmetic == "mmdetection":
        resize_as_mmdetection(made)
    if released.soft_nms not in (None, made.model.soft_nms is not None):
        raise WeightsError(
            f"{released.file}: was tested with{'' if released.soft_nms else 'out'} Soft-NMS, the "
            "config says otherwise: give model.soft_nms, or another --config"
        )
    return made


def resize_as_mmdetection(config: DictConfig) -> None:
    """Resize test images of a config by OpenCV. Raises ValueError for other transforms."""
    (only,) = config.input.test if len(config.input.test) == 1 else (None,)
    if only is None or not str(only._target_).rpartition(".")[2].startswith("ResizeShortestEdge"):
        raise ValueError("input.test: MMDetection's detectors are tested after one resize alone")
    sizes = {"short_edge_length": only.short_edge_length, "max_size": only.max_size}
    config.input.test = [LazyCall(ResizeShortestEdgeByOpenCV)(**sizes)]


def load_released(model: GeneralizedRCNN, released: Detector, classes: Sequence[str]) -> None:
    """Put the file's tensors into the network of its config, in the order of `classes`.

    Raises WeightsError that lists what is missing, left over or of another shape, or where the
    file's anchors are not the network's.
    """
    tensors = released.in_order(classes)
    try:
        checkpoint.load_model(model, tensors, Path(released.file))
    except ValueError as error:
        raise WeightsError(str(error)) from error
    for tensor in released.tensors.values():
        if not tensor.isfinite().all():
            raise WeightsError(f"{released.file}: has numbers that are not finite")
    own = list(model.proposal_generator.anchor_generator.cell_anchors)
    for level, stored in released.anchors.items():
        if level >= len(own) or not torch.allclose(own[level], stored.float(), atol=1e-3):
            raise WeightsError(f"{released.file}: its anchors of level {level} are other ones")


def prepare_released(released: Detector, config: DictConfig) -> Run:
    """Return the run of a released_config, its detector with the file's weights, evaluating."""
    setup = prepare(config, released.pixels, training=False)
    load_released(setup.detector.model, released, setup.val.classes)
    place(setup.detector.model, setup.device)
    setup.detector.model.eval()
    return setup


def protocol_of(setup: Run) -> dict[str, Any]:
    """Return the protocol of an evaluation, as JSON values."""
    return json.loads(json.dumps(protocols(setup).eval))


def evaluate_released(
    released: Detector,
    config: DictConfig,
    work_dir: Path,
    release: ReleasedSegmentor | None = None,
) -> dict[str, Any]:
    """Evaluate on the validation images; write result.json and return WORK_DIR/released.json.

    `release` is what is known of the file. Raises ValueError where the folder has a report, or the
    data or the file cannot be used.
    """
    require_no_report(work_dir)
    start_processes(config.train.device, "fp32")
    setup = prepare_released(released, config)
    began = time.monotonic()
    evaluator, _ = evaluate(setup, setup.detector.model, work_dir)
    metrics = evaluator.metrics
    if metrics is None:  # on another process than the first
        return {}
    found = {
        "file": released.file,
        "sha256": released.encoder.sha256,
        "layout": released.layout,
        "config": Path(config.config_file).stem,
        "tensors": len(released.tensors) + len(released.anchors),
        "class_order": "the file's names" if released.class_names else "assumed: by category id",
        "pixels": released.pixels_from,
        "differences": DIFFERENCES[released.layout],
        "metrics": metrics.metrics,
        "per_class": metrics.per_class,
        "evaluator": metrics.evaluator,
        "protocol": protocol_of(setup),
        "environment": describe_environment(setup.device).model_dump(),
    }
    if comm.is_main_process():
        seconds = time.monotonic() - began
        record = record_of(released, setup, evaluator, seconds, release)
        write_released(record, found, work_dir)
    return found


def record_of(
    released: Detector,
    setup: Run,
    evaluator: CocoEvaluator,
    seconds: float,
    release: ReleasedSegmentor | None,
) -> Result:
    """Return the record of an evaluation; the lineage is that of the release it started from."""
    identity = released.encoder.identity
    report, stages = report_of(
        released.file, released.layout, released.encoder.sha256, identity, release
    )
    training = training_of_release(
        "detection",
        Dataset(
            name=setup.config.data.name,
            train_images=0,
            val_images=protocols(setup).eval["data"]["images"],
            classes=setup.val.classes,
        ),
        describe_environment(setup.device),
        seconds,
        report=report,
        backbone=identity.arch,
        backbone_args=transfer_arch_args(identity.arch, identity.arch_args),
        stages=stages,
        named_in=release.named_in if release else None,
        notes=list(DIFFERENCES[released.layout]),
    )
    return Result(**fields_of(training), **measured(setup, evaluator))
