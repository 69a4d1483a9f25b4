"""Segmentors as their authors released them: the config chosen by the file, and the same network.

What differs in arithmetic from the authors' code is named in DIFFERENCES.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from pretrain.files.read import WeightsError
from transfer.segmentation import backbone, segmentor  # noqa: F401  registers what configs name
from transfer.segmentation.config import CONFIGS, fill_in, load_config
from transfer.segmentation.segmentor import set_pixels
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
NET = ("arch", "arch_args", "weights", "fresh", "unused", "image_size", "relative_position",
       "layer_scale", "head_channels", "aux_channels", "pixels")  # fmt: skip


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
    return cfg


def build_released(released: Segmentor, cfg: Config) -> Any:
    """Return the network with the file's weights, evaluating; see `load_released`."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(fill_in(cfg)["model"])
    load_released(model, released, tuple(fill_in(cfg)["classes"]))
    return model.eval()


def load_released(model: Any, released: Segmentor, classes: tuple[str, ...]) -> None:
    """Load into a TransferSegmentor, with its classes in the order of `classes`.

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
    model.load_state_dict({**own, **given}, strict=True)
    if released.pixels is not None:
        set_pixels(model.data_preprocessor, released.pixels)
