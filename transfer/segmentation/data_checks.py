"""The check of a config's images and label maps before training."""

from pathlib import Path
from typing import Any

from pretrain.findings import refuse_errors
from transfer.datasets.ade20k_checks import FolderPair, check_ade20k
from transfer.segmentation.data import find_suffix

WHOLE_BELOW = 2000  # images in all; larger sets are sampled (tools/check_data.py reads everything)


def folder_pairs(cfg: Any) -> list[FolderPair]:
    """Training and evaluation folders of a filled-in config."""
    root = Path(cfg["data_root"])
    return [
        FolderPair(
            name,
            root / cfg[f"{name}_images"],
            root / cfg[f"{name}_labels"],
            cfg["image_suffix"] or find_suffix(root / cfg[f"{name}_images"]),
            cfg["label_suffix"],
        )
        for name in ("train", "val")
    ]


def check_data(cfg: Any) -> None:
    """ValueError with the problems found, each with its fix."""
    pairs = folder_pairs(cfg)
    count = sum(1 for pair in pairs for _ in pair.images.rglob(f"*{pair.image_suffix}"))
    findings = check_ade20k(
        pairs,
        classes=cfg["num_classes"],
        zero_is_other=cfg["reduce_zero_label"],
        full=count < WHOLE_BELOW,
    )
    refuse_errors(findings, cfg["allow_findings"])
