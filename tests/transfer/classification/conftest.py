"""A class-folder tree of discs, squares and stripes, drawn in a second, and a small encoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from transfer.classification.config import FineTuning, load_config

CLASSES = ("disc", "square", "stripes")
SIDE = 40
NET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
SMALL = """
from pretrain.config import Schedule
from transfer.classification.config import FineTuning, Input, Optimizer, RunSettings, Targets

finetuning = FineTuning(
    images=Input(input_size=32, crop_scale=(0.5, 1.0)),
    targets=Targets(mixup=0.8, cutmix=1.0),
    ema_decay=0.9,
    batch_size=8,
    optimizer=Optimizer(base_lr=0.01, lr_batch_size=0),
    schedule=Schedule(steps=6, warmup_steps=2),
    precision="fp32",
    run=RunSettings(workers=0, log_steps=1, checkpoint_steps=2, device="cpu"),
)
"""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def picture(rng: np.random.Generator, kind: str) -> Image.Image:
    """A figure of any colour at any place on noise."""
    pixels = rng.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE] - rng.integers(15, 25, 2)[:, None, None]
    shown = {
        "disc": x**2 + y**2 < 100,
        "square": (abs(x) < 9) & (abs(y) < 9),
        "stripes": (x // 4) % 2 == 0,
    }[kind]
    pixels[shown] = rng.integers(120, 255, 3)
    return Image.fromarray(pixels)


def draw_tree(root: Path, train: int = 8, val: int = 5) -> Path:
    """Write train/CLASS/ and val/CLASS/ with that many images a class."""
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        rng = np.random.default_rng(seed)
        for kind in CLASSES:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                picture(rng, kind).save(folder / f"{split}_{i:08}.JPEG", quality=95)
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_tree(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder file as a pretraining writes it: no classifier, another scale of pixels."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    torch.manual_seed(0)
    net = timm.create_model("resnet26", num_classes=0, **NET)
    identity = identity_of(
        "resnet26",
        NET,
        input_size=32,
        pixel_std=(0.2, 0.25, 0.3),
        steps=7,
        recipe={"method": "x", "seed": 3},
    )
    write_encoder(path, net.state_dict(), identity)
    return path


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    return path


@pytest.fixture
def small(config_file: Path, encoder: Path) -> Callable[..., FineTuning]:
    """The config of a run of seconds, with overrides."""
    return lambda *words: load_config(config_file, [f"weights={encoder}", *words])
