"""A COCO-format dataset of bright squares and discs on noise, drawn in a second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
from omegaconf import DictConfig
from PIL import Image

pytest.importorskip("detectron2")
import torch

from transfer.detection.config import load_config
from transfer.detection.evaluation.matching import to_rle

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

CONFIG = Path(__file__).parents[3] / "configs/detection/shapes_mask_rcnn.py"
SIDE = 64
CATEGORIES = [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}]  # not sorted, not from 1


def outline(kind: int, x: int, y: int, r: int) -> list[list[float]]:
    """Polygons of a square (category 3) or a disc (7) behind a thin post: a part on each side."""
    if kind == 3:
        corner = np.asarray([[1, -r], [r, -r], [r, r], [1, r]], float)
    else:
        angles = np.linspace(-1.4, 1.4, 12)
        corner = r * np.stack([np.cos(angles), np.sin(angles)], 1)
    return [(corner * (side, 1) + (x, y)).ravel().tolist() for side in (1, -1)]


def annotate(image_id: int, kind: int, mask: Any, *, crowd: int = 0) -> dict[str, Any]:
    """COCO's annotation, without an id, of polygons or a run-length code."""
    code = to_rle({"segmentation": mask}, (SIDE, SIDE))
    return {
        "image_id": image_id,
        "category_id": kind,
        "bbox": mask_api.toBbox(code).tolist(),
        "area": int(mask_api.area(code)),
        "iscrowd": crowd,
        "segmentation": mask,
    }


def draw_split(
    folder: Path, count: int, seed: int, *, first_id: int = 0, run_lengths: bool = False
) -> tuple[Path, Path]:
    """Write `count` images with objects and an empty one; returns (annotation file, image folder).

    As in COCO 2017, masks are polygons, several an object, and a crowd's is a run-length code;
    with `run_lengths` all masks are such codes.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for i in range(count + 1):
        image_id, name = 10 * i + 5, f"{seed}_{i}.png"
        images.append({"id": image_id, "file_name": name, "width": SIDE, "height": SIDE})
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        for kind in (3, 7) if i < count else ():
            (y, x), r = rng.integers(16, SIDE - 16, 2).tolist(), int(rng.integers(6, 14))
            mask: Any = outline(kind, x, y, r)
            code = to_rle({"segmentation": mask}, (SIDE, SIDE))
            pixels[mask_api.decode(code) > 0] = (220, 60, 60) if kind == 3 else (60, 220, 60)
            if run_lengths:
                mask = {"size": code["size"], "counts": code["counts"].decode()}
            annotations.append(annotate(image_id, kind, mask))
        if i == 0:  # along the upper edge, two pixels high
            mask = {"size": [SIDE, SIDE], "counts": [0, *[2, SIDE - 2] * SIDE]}
            pixels[:2] = (220, 60, 60)
            annotations.append(annotate(image_id, 3, mask, crowd=1))
        Image.fromarray(pixels).save(folder / "images" / name)
    for number, annotation in enumerate(annotations, first_id):
        annotation["id"] = number
    path = folder / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES})
    )
    return path, folder / "images"


@pytest.fixture(scope="session")
def coco_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`data.*` overrides of a small dataset whose first annotation has id 0."""
    root = tmp_path_factory.mktemp("coco")
    train_json, train_images = draw_split(root / "train", 12, seed=1)
    val_json, val_images = draw_split(root / "val", 4, seed=2)
    return {
        "data.train_json": str(train_json),
        "data.train_images": str(train_images),
        "data.val_json": str(val_json),
        "data.val_images": str(val_images),
    }


TINY = [
    "weights=none",
    "arch=convnextv2_atto",
    'arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}',
    "model.channels=16",
    "model.fpn_norm=''",
    "model.box_norm=''",
    "model.mask_norm=''",
    "model.box_fcs=[32]",
    "model.mask_convs=[16]",
    "model.roi_batch=16",
    "schedule.steps=4",
    "schedule.milestones=[3]",
    "schedule.warmup_steps=1",
    "train.batch_size=2",
    "train.log_steps=1",
    "train.checkpoint_steps=2",
    "test.pictures=1",
]


@pytest.fixture
def tiny(coco_data: dict[str, str], tmp_path: Path) -> Callable[..., DictConfig]:
    """A config that trains in a second: tiny(output folder's name, *more overrides)."""

    def make(out: str = "out", *more: str) -> DictConfig:
        data = [f"{key}={value}" for key, value in coco_data.items()]
        return load_config(CONFIG, [*TINY, *data, f"output_dir={tmp_path / out}", *more])

    return make
