"""tools/show_reconstructions.py draws what a run's training state reconstructs."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pretrain.config import FcmaeSettings, Recipe, RunSettings, Schedule
from pretrain.train import train
from tools.show_reconstructions import draw

RECIPE = Recipe(
    arch="convnextv2_atto",
    arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    method=FcmaeSettings(decoder_width=32),
    image_size=64,
    batch_size=2,
    schedule=Schedule(steps=2, warmup_steps=0),
    run=RunSettings(workers=0, device="cpu", pictures=2),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(4):
        image = Image.linear_gradient("L").rotate(90 * i).convert("RGB")
        image.save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def options(out: Path, **changes: object) -> argparse.Namespace:
    values = {"run": out, "data": None, "image": [], "images": 2, "seed": None, "to": None}
    return argparse.Namespace(**{**values, **changes})


def test_the_picture_is_that_of_the_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(RECIPE, data=data, out=out)
    picture = draw(options(out, data=data))
    assert picture.read_bytes() == (out / "reconstructions.png").read_bytes()
    other = draw(options(out, data=data, seed=RECIPE.seed + 1))  # other masks
    assert other.read_bytes() != picture.read_bytes()
    train(replace(RECIPE, seed=3), data=data, out=tmp_path / "other")
    assert draw(options(tmp_path / "other", data=data, seed=0)).read_bytes() != picture.read_bytes()


def test_a_folder_without_run_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not an output folder"):
        draw(options(tmp_path, data=data))
