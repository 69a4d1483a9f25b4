"""A data set of a few 64 px scenes, and the options of a run that takes seconds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

CUSTOM = Path("configs/segmentation/custom.py")
TINY_NET = 'arch_args={"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}'


def write_scenes(folder: Path, count: int, seed: int) -> None:
    """`count` images with a bright square (class 1) and a dark stripe (class 2) on noise."""
    rng = np.random.default_rng(seed)
    split = f"{'train' if seed == 0 else 'val'}"
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = rng.integers(90, 160, (64, 64, 3), dtype=np.uint8)
        label = np.zeros((64, 64), np.uint8)
        y, x = rng.integers(0, 40, 2)
        image[y : y + 20, x : x + 20], label[y : y + 20, x : x + 20] = 250, 1
        image[:, 60:], label[:, 60:] = 5, 2
        Image.fromarray(image).save(folder / "images" / split / f"{i:02}.png")
        Image.fromarray(label).save(folder / "labels" / split / f"{i:02}.png")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """16 training and 4 evaluation scenes of three classes, 64 px."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 16, seed=0)
    write_scenes(folder, 4, seed=1)
    return folder


@pytest.fixture
def tiny(scenes) -> list[str]:
    """Options that make custom.py a run of six steps on the scenes."""
    return [
        f"data_root={scenes}",
        "classes=noise,square,stripe",
        "arch=convnext_atto",
        TINY_NET,
        "crop_size=(64, 64)",
        "scale=(256, 64)",
        "head_channels=8",
        "aux_channels=8",
        "batch_size=4",
        "max_iters=6",
        "warmup_iters=2",
        "checkpoint_steps=2",
        "log_steps=2",
        "drop_path_rate=0.2",
    ]


@pytest.fixture(autouse=True)
def _quiet(recwarn):
    """MMSegmentation warns at every build."""


@pytest.fixture
def segment():
    """run(options, folder, ...) of custom.py."""
    from transfer.segmentation.config import load_config
    from transfer.segmentation.run import run

    return lambda options, folder, **how: run(load_config(CUSTOM, options), folder, **how)


@pytest.fixture
def evaluate():
    """evaluate(options, folder, ...) of custom.py, as --eval-only does."""
    from transfer.segmentation.config import load_config
    from transfer.segmentation.run import evaluate

    return lambda options, folder, **how: evaluate(load_config(CUSTOM, options), folder, **how)
