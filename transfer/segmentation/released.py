"""Segmentors as their authors released them: the config chosen by the file, and the same network.

What differs in arithmetic from the authors' code is named in DIFFERENCES.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import Tensor

from pretrain.files.read import WeightsError
from transfer.results.record import (
    Dataset,
    Result,
    describe_environment,
    fields_of,
)
from transfer.results.released import require_no_report, training_of_release, write_released
from transfer.segmentation.config import CONFIGS, fill_in, load_config
from transfer.segmentation.data import check_data
from transfer.segmentation.launch import join_processes
from transfer.segmentation.protocol import evaluation_protocol
from transfer.segmentation.record import EVALUATOR, device_of, measured
from transfer.segmentation.runner import TransferRunner, build_runner  # registers what configs name
from transfer.segmentation.safe_files import read_tensors_only
from transfer.segmentation.segmentor import set_pixels
from transfer.segmentation.state import require_finite
from transfer.weights.identity import transfer_arch_args
from transfer.weights.releases import ReleasedSegmentor, report_of
from transfer.weights.segmentors import Segmentor

FAMILIES = {  # layout -> the family of CONFIG_OF
    "unilm_beit": "beit",
    "mmseg_beit": "beit",
    "mmseg_mae": "mae",
    "convnext": "convnext",
    "mmseg_convnext": "convnext",
    "mmseg_resnet": "resnet",
}
CONFIG_OF = {  # (family, timm's name, side of the crops) -> the config whose test is theirs
    ("beit", "beit_base_patch16_224", 512): "beit_base_ft_upernet_512",
    ("beit", "beit_base_patch16_224", 640): "beit_base_ft_upernet_640",
    ("beit", "beit_large_patch16_224", 512): "beit_large_ft_upernet_512",
    ("beit", "beit_large_patch16_224", 640): "beit_large_ft_upernet_640",
    ("mae", "beit_base_patch16_224", 512): "mae_base_upernet_512",
    ("mae", "beit_large_patch16_224", 512): "mae_large_upernet_512",
    ("convnext", "convnext_tiny", 512): "convnext_tiny_upernet_512",
    ("convnext", "convnext_small", 512): "convnext_small_upernet_512",
    ("convnext", "convnext_base", 512): "convnext_base_upernet_512",
    ("convnext", "convnext_base", 640): "convnext_base_22k_upernet_640",
    ("convnext", "convnext_large", 640): "convnext_large_22k_upernet_640",
    ("convnext", "convnext_xlarge", 640): "convnext_xlarge_22k_upernet_640",
    ("resnet", "resnet50c", 512): "resnet50_upernet_512",
    ("resnet", "resnet101c", 512): "resnet50_upernet_512",  # the net is the file's
}
PUBLISHED_ARGS = ("img_size", "use_abs_pos_emb")  # others make another network of the same name
ALWAYS = ("SyncBatchNorm is BatchNorm here, the same with stored statistics",)
TABLES = (
    "relative position indices are computed, not read",
    "attention runs as one fused operation: equal up to rounding",
    "an image smaller than the crop resizes the position tables, where the authors' code stops",
    "maps of odd sides are pooled up to the next whole size, theirs down: crops of whole 32 px "
    "have none",
)
FP16 = "MMSegmentation's *_fp16_* and *-amp-* runs were tested in half precision, here in float32"
DIFFERENCES = {  # layout -> what is computed in another way
    "unilm_beit": (*ALWAYS, *TABLES),
    "mmseg_beit": (*ALWAYS, *TABLES, FP16),
    "mmseg_mae": (
        *ALWAYS,
        *TABLES,
        FP16,
        "the bias of the keys is left out: it adds one number to all logits of a softmax row",
    ),
    "convnext": ALWAYS,
    "mmseg_convnext": (*ALWAYS, FP16),
    "mmseg_resnet": ALWAYS,
}
NET = (
    "arch",
    "arch_args",
    "weights",
    "fresh",
    "unused",
    "image_size",
    "relative_position",
    "layer_scale",
    "head_channels",
    "aux_channels",
    "pixels",
)


def config_of(released: Segmentor) -> Path:
    """Return the shipped config whose test the authors' was.

    Raises WeightsError if there is none, or the file does not tell the size of its crops.
    """
    identity = released.encoder.identity
    arch, odd = identity.arch, {*identity.arch_args} - {*PUBLISHED_ARGS}
    name = CONFIG_OF.get((FAMILIES[released.layout], arch, released.crop or 0))
    if name is None or odd:
        size = f"crops of {released.crop} px" if released.crop else "crops of an unknown size"
        raise WeightsError(
            f"{released.file}: no shipped config is that of {arch} {identity.arch_args or ''} "
            f"({released.layout}) with {size}; say which one to test it by with --config"
        )
    return CONFIGS / f"{name}.py"


def released_config(
    released: Segmentor, config: Path | None = None, options: Sequence[str] = ()
) -> Config:
    """Return the config that builds the file's network, not yet filled in.

    `config` replaces the one that the file chooses. Raises ValueError for an option that would
    change the network.
    """
    wrong = [o for o in options if o.partition("=")[0].partition(".")[0] in (*NET, "model")]
    if wrong:
        raise ValueError(f"{wrong[0]}: the network is the file's; leave the option out")
    cfg = load_config(config or config_of(released), options)
    identity = released.encoder.identity
    net: dict[str, Any] = {
        "arch": identity.arch,
        "arch_args": identity.arch_args,
        "weights": "none",
        "fresh": [],
        "unused": [],
        "image_size": None,
        "relative_position": False,
        "layer_scale": None,
        "head_channels": released.head_channels,
        "aux_channels": released.aux_channels,
        "drop_path_rate": 0.0,
        "precision": "fp32",
        "sync_bn": False,
    }
    for name, value in net.items():
        cfg[name] = value
    if released.blocks is not None:
        cfg["model"]["backbone"]["vit"]["blocks"] = released.blocks
    return cfg


def build_released(released: Segmentor, cfg: Config) -> Any:
    """Return the network with the file's weights, evaluating; raises as `fitted` does."""
    filled = fill_in(cfg)
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(filled["model"])
    model.load_state_dict(fitted(model, released, tuple(filled["classes"])), strict=True)
    take_pixels(model, released)
    return model.eval()


def fitted(model: Any, released: Segmentor, classes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the state of a TransferSegmentor, with its classes in the order of `classes`.

    Raises WeightsError that lists what is missing, left over or of another shape.
    """
    given, own = released.in_order(classes), model.state_dict()
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    spare = [n for n in given if n not in own]
    shapes = [
        f"{n} {tuple(given[n].shape)} for {tuple(own[n].shape)}"
        for n in own
        if n in given and given[n].shape != own[n].shape
    ]
    titles = {"missing": missing, "left over": spare, "of another shape": shapes}
    problems = [f"{title} ({len(n)}): {', '.join(n[:8])}" for title, n in titles.items() if n]
    if problems:
        raise WeightsError(
            f"{released.file} ({released.layout}) is not this network: {'; '.join(problems)}"
        )
    require_finite(given)
    return {**own, **given}


def take_pixels(model: Any, released: Segmentor) -> None:
    """Normalise pixels as the file says; the config's ImageNet statistics where it does not."""
    if released.pixels is not None:
        set_pixels(model.data_preprocessor, released.pixels)


def protocol_of(cfg: Config) -> dict[str, Any]:
    """Return the protocol of an evaluation, as JSON values."""
    return json.loads(json.dumps(evaluation_protocol(cfg, fill_in(cfg))))


def evaluate_released(
    released: Segmentor,
    cfg: Config,
    work_dir: Path,
    launcher: str = "auto",
    release: ReleasedSegmentor | None = None,
) -> dict[str, Any]:
    """Evaluate on the validation images; write result.json and return WORK_DIR/released.json.

    `release` is what is known of the file. Raises ValueError where the folder has one, or the data
    or the file cannot be used.
    """
    read_tensors_only()
    several = join_processes(launcher) > 1
    require_no_report(work_dir)
    filled = fill_in(cfg)
    check_data(filled, ("val",))
    runner = build_runner(filled, work_dir, several, training=False)
    model = runner.unwrapped_model
    runner.load_weights(fitted(model, released, tuple(filled["classes"])))
    take_pixels(model, released)
    began = time.monotonic()
    metrics = runner.evaluate()
    seconds = time.monotonic() - began
    found = {
        "file": released.file,
        "sha256": released.encoder.sha256,
        "layout": released.layout,
        "config": Path(cfg.filename).stem,
        "tensors": len(released.tensors),
        "class_order": "the file's names" if released.class_names else "assumed: the data set's",
        "pixels": "the file's" if released.pixels else "assumed: the config's",
        "differences": DIFFERENCES[released.layout],
        "metrics": {name: metrics[name] for name in ("mIoU", "mAcc", "aAcc")},
        "per_class": runner.per_class,
        "evaluator": EVALUATOR,
        "protocol": protocol_of(cfg),
        "environment": describe_environment(device_of(runner)).model_dump(),
    }
    if is_main_process():
        record = record_of(released, cfg, runner, metrics, seconds, release)
        write_released(record, found, work_dir)
    return found


def record_of(
    released: Segmentor,
    cfg: Config,
    runner: TransferRunner,
    metrics: Mapping[str, float],
    seconds: float,
    release: ReleasedSegmentor | None,
) -> Result:
    """Return the record of an evaluation; the lineage is that of the release it started from."""
    identity, settings, filled = released.encoder.identity, protocol_of(cfg), fill_in(cfg)
    report, stages = report_of(
        released.file, released.layout, released.encoder.sha256, identity, release
    )
    training = training_of_release(
        "segmentation",
        Dataset(
            name=filled["dataset"] or Path(filled["data_root"]).resolve().name,
            train_images=0,
            val_images=settings["data"]["images"],
            classes=list(filled["classes"]),
        ),
        describe_environment(device_of(runner)),
        seconds,
        report=report,
        backbone=identity.arch,
        backbone_args=transfer_arch_args(identity.arch, identity.arch_args),
        stages=stages,
        named_in=release.named_in if release else None,
        notes=list(DIFFERENCES[released.layout]),
    )
    return Result(**fields_of(training), **measured(settings, runner, metrics))
