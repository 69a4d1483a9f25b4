"""Small images and small recipes for the tests of the loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.config import (
    FcmaeSettings,
    Optimizer,
    Recipe,
    RunSettings,
    Schedule,
    SparkSettings,
)

IMAGES = 24


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def write_images(root: Path, count: int = IMAGES, side: int = 72) -> Path:
    """Smooth random images, half of them in a subfolder, of two formats."""
    rng = np.random.default_rng(0)
    (root / "more").mkdir(parents=True)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        image = small.resize((side + i, side), Image.Resampling.BICUBIC)
        name = f"{i:03}.png" if i % 2 else f"more/{i:03}.jpg"
        image.save(root / name)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 images."""
    return write_images(tmp_path_factory.mktemp("photos") / "images")


SHORT = Schedule(steps=6, warmup_steps=2)
QUICK = RunSettings(workers=0, log_steps=2, checkpoint_steps=2, pictures=2, device="cpu")


@pytest.fixture(scope="session")
def fcmae_recipe() -> Recipe:
    """FCMAE with stochastic depth on a 2 x 2 grid; three steps an epoch."""
    return Recipe(
        arch="convnextv2_atto",
        arch_args={"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]},
        method=FcmaeSettings(decoder_width=32),
        image_size=64,
        drop_path_rate=0.2,
        batch_size=8,
        optimizer=Optimizer(base_lr=1e-3, lr_batch_size=0, clip_norm=1.0),
        schedule=SHORT,
        run=QUICK,
    )


@pytest.fixture(scope="session")
def spark_recipe() -> Recipe:
    """SparK with BatchNorm and LAMB."""
    return Recipe(
        arch="resnet18",
        arch_args={"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]},
        method=SparkSettings(decoder_width=32, mask_ratio=0.5),
        image_size=64,
        batch_size=8,
        optimizer=Optimizer(
            optimizer="lamb", base_lr=1e-2, lr_batch_size=0, clip_norm=5.0, weight_decay_end=0.2
        ),
        schedule=SHORT,
        run=QUICK,
    )


@pytest.fixture
def break_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a pretraining end abruptly before the optimizer step of the number given."""
    from pretrain.run.loop import Loop

    whole = Loop.train_step

    def arrange(at: int, kind: str = "pretraining") -> None:
        def train_step(self: Loop, step: int, batches: Any) -> None:
            if step == at and self.trainee.kind == kind:
                raise KeyboardInterrupt
            whole(self, step, batches)

        monkeypatch.setattr(Loop, "train_step", train_step)

    return arrange
