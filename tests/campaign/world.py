"""The sound world: images, annotations, label maps, weights, finished runs, records."""

import importlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.campaign.case import Place, run_tool
from tests.transfer.detection.conftest import TINY, draw_split
from tests.transfer.segmentation.conftest import write_scenes

NET = '{"depths":[1,1,1,1],"dims":[8,16,24,32]}'
MODULES = (
    "pretrain.command",
    "pretrain.train",
    "pretrain.prepare",
    "pretrain.methods",
    "pretrain.pictures",
    "pretrain.tokenizer.training",
    "transfer.detection.launch",
    "transfer.detection.evaluation.curves",
    "transfer.detection.evaluation.pictures",
    "transfer.segmentation.run",
    "transfer.segmentation.estimate",
    "transfer.segmentation.pictures",
    "transfer.results.report",
    "transfer.suites.steps",
    "transfer.classification.run",
    "transfer.classification.probe",
    "transfer.weights",
)
# The words of sound runs, in terms of {w}, {o} and {r} (see Case)
PRETRAIN = (
    "{r}/configs/pretrain/shapes_fcmae_convnextv2.py --data {w}/images --out {o}/out "
    "--device cpu --image-size 64 --batch-size 4 --steps 2 --warmup-steps 1 --workers 0 "
    f"--pictures 1 --decoder-width 16 --arch-args '{NET}'"
)
DETECTION = " ".join(
    (
        "--config-file {r}/configs/detection/shapes_mask_rcnn.py output_dir={o}/out",
        *map(shlex.quote, TINY),
        "data.train_json={w}/coco/train/instances.json data.train_images={w}/coco/train/images",
        "data.val_json={w}/coco/val/instances.json data.val_images={w}/coco/val/images",
        "train.device=cpu schedule.steps=2 schedule.milestones=[1] train.checkpoint_steps=1",
    )
)
SEGMENTATION = (
    "{r}/configs/segmentation/custom.py --work-dir {o}/out --cfg-options data_root={w}/scenes "
    f"classes=noise,square,stripe arch=convnextv2_atto 'arch_args={NET}' 'crop_size=(64, 64)' "
    "'scale=(256, 64)' head_channels=8 aux_channels=8 batch_size=4 max_iters=2 warmup_iters=1 "
    "checkpoint_steps=1 log_steps=1"
)
FINETUNING = (
    "{r}/configs/classification/custom.py --data {w}/classes --out {o}/out weights=none "
    f"arch=convnextv2_atto 'arch_args={NET}' input_size=64 batch_size=4 device=cpu"
)
PROBING = "none --data {w}/classes --out {o}/out arch=convnextv2_atto"


def import_everything() -> None:
    """Import what the tools import, so that forked ones start at once."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(1)
    for name in MODULES:
        importlib.import_module(name)


def make_world(world: Path) -> Path:
    """Make everything sound that cases need; return its folder."""
    rng = np.random.default_rng(0)
    (world / "images").mkdir(parents=True)
    for i in range(8):
        pixels = rng.integers(0, 255, (72, 80, 3), np.uint8)
        Image.fromarray(pixels).save(world / "images" / f"{i}.jpg")
    for seed, split in enumerate(("train", "val")):
        draw_split(world / "coco" / split, 4, seed)
        write_scenes(world / "scenes", 4, seed)
    for i, (split, name) in enumerate((s, c) for s in ("train", "val") for c in ("cat", "dog")):
        (world / "classes" / split / name).mkdir(parents=True)
        for j in range(4):
            pixels = rng.integers(0, 255, (72, 80, 3), np.uint8)
            Image.fromarray(pixels).save(world / "classes" / split / name / f"{i}_{j}.jpg")
    place = Place(world, world)
    for name, tool, words in (
        ("pretraining", "pretrain", PRETRAIN),
        ("detection", "train_net", DETECTION),
        ("segmentation", "train_seg", SEGMENTATION + " save_predictions=True"),
    ):
        run_tool(tool, place.words(words.replace("{o}/out", f"{{w}}/{name}")), place)
    return world


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Let `change` alter the JSON of `path` in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
