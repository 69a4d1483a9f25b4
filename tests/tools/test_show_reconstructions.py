"""tools/show_reconstructions.py draws what a run's training state reconstructs."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pretrain.config import FcmaeSettings, Recipe, RunSettings, Schedule
from pretrain.train import train
from tools.show_reconstructions import Arguments, draw

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


def test_the_picture_is_that_of_the_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(RECIPE, data=data, out=out)
    picture = draw(Arguments(out, data=data, images=2))
    assert picture.read_bytes() == (out / "reconstructions.png").read_bytes()
    other = draw(Arguments(out, data=data, images=2, seed=RECIPE.seed + 1))  # other masks
    assert other.read_bytes() != picture.read_bytes()
    train(replace(RECIPE, seed=3), data=data, out=tmp_path / "other")
    other = draw(Arguments(tmp_path / "other", data=data, images=2, seed=0))
    assert other.read_bytes() != picture.read_bytes()


def test_a_folder_without_run_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not an output folder"):
        draw(Arguments(tmp_path, data=data))
