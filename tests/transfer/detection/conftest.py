"""A COCO-format dataset of bright squares and discs on noise, drawn in a second."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_api
import pytest
from omegaconf import DictConfig
from PIL import Image

pytest.importorskip("detectron2")
import torch

from transfer.detection.config import load_config

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

CONFIG = Path(__file__).parents[3] / "configs/detection/shapes_mask_rcnn.py"
SIDE = 64
CATEGORIES = [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}]  # not sorted, not from 1


def draw_split(folder: Path, count: int, seed: int, *, first_id: int = 0) -> tuple[Path, Path]:
    """Write `count` images and their annotations; returns (annotation file, image folder)."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    rows, columns = np.mgrid[:SIDE, :SIDE]
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        for kind in (3, 7):
            (y, x), r = rng.integers(16, SIDE - 16, 2).tolist(), int(rng.integers(6, 14))
            near = np.maximum(abs(rows - y), abs(columns - x)) if kind == 3 else None
            inside = near < r if near is not None else (rows - y) ** 2 + (columns - x) ** 2 < r * r
            pixels[inside] = (220, 60, 60) if kind == 3 else (60, 220, 60)
            code = mask_api.encode(np.asfortranarray(inside.astype(np.uint8)))
            annotations.append(
                {
                    "id": first_id + len(annotations),
                    "image_id": 10 * i + 5,
                    "category_id": kind,
                    "bbox": mask_api.toBbox(code).tolist(),
                    "area": int(inside.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
            )
        name = f"{seed}_{i}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": 10 * i + 5, "file_name": name, "width": SIDE, "height": SIDE})
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
    "train.batch=2",
    "train.log_period=1",
    "train.checkpoint_period=2",
    "test.pictures=1",
]


@pytest.fixture
def tiny(coco_data: dict[str, str], tmp_path: Path) -> Callable[..., DictConfig]:
    """A config that trains in a second: tiny(output folder's name, *more overrides)."""

    def make(out: str = "out", *more: str) -> DictConfig:
        data = [f"{key}={value}" for key, value in coco_data.items()]
        return load_config(CONFIG, [*TINY, *data, f"output_dir={tmp_path / out}", *more])

    return make
