"""Any weights file on COCO and ADE20K, beside the same network from scratch.

python tools/run_suite.py configs/suites/own_encoder.py --out outputs/own --set weights=FILE

`weights` is any file that tools/inspect_weights.py reads, or a name of configs/weights.json. The
configs are those of its architecture, or of its family at another size. Training from scratch goes
without the layer decay of fine-tuning; give its own learning rates with scratch_lr. Where
`labelled` names images with classes, the frozen encoder is probed on them, beside a random one.
"""

from pathlib import Path
from typing import Any

from transfer.suites.suite import ROOT, Cell, Released, Suite
from transfer.weights.convert import read_weights
from transfer.weights.identity import transfer_arch_args
from transfer.weights.releases import releases

# beginning of timm's names -> configs, with the size in them, and those of a size that is shipped
FAMILIES = (
    (
        "resnet",
        "spark_{net}_1x",
        "spark_resnet50_1x",
        "spark_{net}_upernet_512",
        "spark_resnet50_upernet_512",
    ),
    (
        "convnextv2",
        "{net}_3x",
        "convnextv2_base_3x",
        "{net}_upernet_512",
        "convnextv2_base_upernet_512",
    ),
    ("convnext", "{net}_3x", "convnext_tiny_3x", "{net}_upernet_512", "convnext_tiny_upernet_512"),
    ("beit", "{net}_100ep", "beit_base_100ep", "{net}_pt_upernet_512", "beit_base_pt_upernet_512"),
    ("vit", "{net}_100ep", "vit_base_100ep", "mae_{size}_upernet_512", "mae_base_upernet_512"),
    (
        "deit",
        "vit_{size}_100ep",
        "vit_base_100ep",
        "mae_{size}_upernet_512",
        "mae_base_upernet_512",
    ),
)


def configs_of(arch: str) -> tuple[str, str]:
    """Return the detection and the segmentation config for an architecture."""
    family = next((found for found in FAMILIES if arch.startswith(found[0])), None)
    if family is None:
        known = ", ".join(name for name, *_ in FAMILIES)
        raise ValueError(f"no config is shipped for {arch}, only for {known}: write a suite for it")
    net = arch.partition("_patch")[0]
    words = {"net": net, "size": net.rpartition("_")[2]}
    _, detector, other_detector, segmentor, other_segmentor = family
    return (
        shipped("detection", detector.format(**words), other_detector),
        shipped("segmentation", segmentor.format(**words), other_segmentor),
    )


def shipped(task: str, own: str, other: str) -> str:
    paths = [f"configs/{task}/{name}.py" for name in (own, other)]
    return next(path for path in paths if (ROOT / path).is_file())


def suite(
    weights: str,
    seeds: int = 1,
    scratch_lr: tuple = (None, None),
    labelled: str | None = None,
    gpus: int = 8,
) -> Suite:
    if weights in releases():
        start, arch, arch_args = Released(weights), releases()[weights].arch, {}
    else:
        identity = read_weights(weights).identity
        start, arch = Path(weights), identity.arch.partition(".")[0]
        arch_args = transfer_arch_args(arch, identity.arch_args)
    cells = []
    keys = ("optimizer.lr", "lr")
    each: dict[str, Any] = {"seeds": tuple(range(seeds)), "arch": arch, "arch_args": arch_args}
    for config, key, lr in zip(configs_of(arch), keys, scratch_lr, strict=True):
        options = ("layer_decay=1.0", *([] if lr is None else [f"{key}={lr}"]))
        here = {**each, "gpus": gpus}
        cells += [Cell(config, start, **here), Cell(config, None, options, **here)]
    if labelled is not None:
        cells += [Cell("probe", start, **each), Cell("probe", None, **each)]
    return Suite(cells=tuple(cells), labelled_data=labelled)
