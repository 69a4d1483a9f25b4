"""Published figures beside the suite's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from transfer.results.table import METHODS, Column, Row, Table

# timm architecture -> its name in configs/published.json
PUBLISHED_BACKBONES = {
    "convnextv2_base": "ConvNeXt V2-B",
    "convnextv2_large": "ConvNeXt V2-L",
    "convnextv2_huge": "ConvNeXt V2-H",
    "convnext_tiny": "ConvNeXt-T",
    "convnext_base": "ConvNeXt-B",
    "convnext_large": "ConvNeXt-L",
    "beit_base_patch16_224": "ViT-B",
    "beit_large_patch16_224": "ViT-L",
    "vit_base_patch16_224": "ViT-B",
    "vit_large_patch16_224": "ViT-L",
}


PUBLISHED_TASKS = {
    ("detection", "coco_2017"): "coco_mask_rcnn",
    ("segmentation", "ade20k"): "ade20k_upernet",
}


def beside_published(table: Table, published: Sequence[Mapping[str, Any]]) -> str:
    """Each cell that has a published counterpart, with value, difference, setting and source.

    Only COCO and ADE20K runs of stock backbones have one; "" where there is none.
    """
    lines = []
    for row in table.rows:
        for column, cell in row.cells.items():
            for figure in published:
                if _counterpart(row, column, figure):
                    lines.append(
                        [METHODS.get(row.method, row.method), figure["backbone"], figure["metric"],
                         f"{cell.mean:.1f}", f"{figure['value']:.1f}",
                         f"{cell.mean - figure['value']:+.1f}", figure["schedule"],
                         figure["source"]]
                    )  # fmt: skip
    header = [
        "Method",
        "Backbone",
        "Metric",
        "Ours",
        "Published",
        "Δ",
        "Published setting",
        "Source",
    ]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True) if lines else ""


def _counterpart(row: Row, column: Column, figure: Mapping[str, Any]) -> bool:
    return (
        figure["task"] == PUBLISHED_TASKS.get((column.task, column.dataset))
        and figure["method"] == METHODS.get(row.method, row.method)
        and figure["backbone"] == PUBLISHED_BACKBONES.get(row.backbone)
        and figure["metric"] in (column.metric, f"{column.metric}_ss")
    )
