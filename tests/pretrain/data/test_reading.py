"""Images that cannot be read: tried again, replaced, counted, and too many stop the run."""

import io
import json
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.config import Augmentation, Recipe
from pretrain.data import reading
from pretrain.data.batches import ImageSamples, loader
from pretrain.data.checked import checked_images
from pretrain.data.masks import random_visible
from pretrain.data.order import BatchShare, Order
from pretrain.data.reading import (
    Failure,
    FailureCount,
    UnreadableImagesError,
    read_image,
    read_or_replace,
)
from pretrain.data.sources import Files, digest, open_images
from pretrain.run import folder
from pretrain.train import train

ALONE: Any = SimpleNamespace(is_global_zero=True, world_size=1, local_rank=0, barrier=lambda: None)


@pytest.fixture
def place(photos: Path, tmp_path: Path) -> Path:
    """A folder of 24 images, the third of them broken."""
    shutil.copytree(photos, tmp_path / "data")
    (tmp_path / "data" / "005.png").write_bytes(b"\x89PNG nothing more")
    return tmp_path / "data"


BROKEN = 2  # 001.png, 003.png, 005.png


def failing(monkeypatch: pytest.MonkeyPatch, times: int, error: OSError) -> list[int]:
    """Let the first `times` openings fail; the openings are noted."""
    whole, opened = Files.open, []

    def open_(self: Files, index: int) -> Any:
        opened.append(index)
        if len(opened) <= times:
            raise error
        return whole(self, index)

    monkeypatch.setattr(Files, "open", open_)
    monkeypatch.setattr(reading, "WAITS_S", (0.0, 0.001))
    return opened


def test_a_disk_that_comes_back_is_waited_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(photos)
    expected = read_image(images, 3).tobytes()
    opened = failing(monkeypatch, 2, OSError(116, "Stale file handle"))
    assert read_image(images, 3).tobytes() == expected
    assert opened == [3, 3, 3]


def test_a_missing_file_is_not_waited_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = failing(monkeypatch, 9, FileNotFoundError(2, "No such file or directory"))
    with pytest.raises(ValueError, match="No such file"):
        read_image(open_images(photos), 3)
    assert len(opened) == 3


def test_a_replacement_depends_on_seed_epoch_and_image_alone(place: Path) -> None:
    images = open_images(place)
    image, (failure,) = read_or_replace(images, BROKEN, (0, 4))
    assert failure.index == BROKEN
    assert "005.png" in failure.message
    again, _ = read_or_replace(images, BROKEN, (0, 4))
    assert again.tobytes() == image.tobytes()
    others = [read_or_replace(images, BROKEN, (0, epoch))[0].tobytes() for epoch in range(5)]
    assert len(set(others)) > 1


def test_the_rest_of_a_batch_is_what_it_was(photos: Path, place: Path) -> None:
    """Only the broken image's sample differs; its mask is the one it would have had."""
    draw = partial(random_visible, grid=(2, 2), n_visible=1)
    keys = [(1, i) for i in range(6)]
    whole, replaced = (
        ImageSamples(open_images(p), Augmentation(), (64,), draw, 0).__getitems__(keys)
        for p in (photos, place)
    )
    for i, ((one, _), (other, failures)) in enumerate(zip(whole, replaced, strict=True)):
        assert torch.equal(one[0], other[0]) == (i != BROKEN)
        assert [f.index for f in failures] == [BROKEN] * (i == BROKEN)


def test_a_disk_that_is_gone_stops_at_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 10**6, OSError(5, "Input/output error"))
    images = open_images(photos)
    with pytest.raises(UnreadableImagesError, match=r"^11 images drawn one after another cannot"):
        read_or_replace(images, 0, (0, 0))
    draw = partial(random_visible, grid=(2, 2), n_visible=1)
    samples = ImageSamples(images, Augmentation(), (64,), draw, 0)
    order, share = Order(24, 8, 3, 0), BatchShare.of(8, 8)
    for workers in (0, 1):
        with pytest.raises(UnreadableImagesError, match=r"^11 images drawn") as error:
            next(loader(samples, order, share, 3, 0, workers, False))
        assert "Traceback" not in str(error.value)


def test_failures_are_logged_and_too_many_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    count = FailureCount(images=2000)  # 20 may fail
    with caplog.at_level(logging.WARNING):
        for index in [*range(20), *range(20)]:  # the second epoch meets the same ones
            count.add([Failure(index, f"{index}.jpg cannot be read")])
    assert caplog.text.count("another image is taken") == 10
    assert "10 of 2000 images could not be read so far" in caplog.text
    with pytest.raises(
        UnreadableImagesError, match="21 of 2000 images cannot be read, more than 1%"
    ):
        count.add([Failure(20, "20.jpg cannot be read")])


def test_images_are_not_looked_at_unless_asked(place: Path, tmp_path: Path) -> None:
    images = checked_images(ALONE, place, tmp_path / "out", False, False)
    assert len(images) == 24
    with pytest.raises(ValueError, match=r"005\.png"):
        checked_images(ALONE, place, tmp_path / "out", False, False, True)


def test_moved_data_can_be_resumed(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = checked_images(ALONE, place, out, False, True)
    assert json.loads((out / folder.DATA).read_text())["skipped"] == ["005.png"]
    place.rename(tmp_path / "moved")
    again = checked_images(ALONE, tmp_path / "moved", out, True, False)
    assert len(again) == 23
    assert digest(again) == digest(images)
    (tmp_path / "moved" / "001.png").unlink()
    with pytest.raises(ValueError, match="other images than when the run"):
        checked_images(ALONE, tmp_path / "moved", out, True, False)


def test_bytes_are_read_before_they_are_decoded(photos: Path) -> None:
    """The same pixels as PIL reads from the file itself."""
    images = open_images(photos)
    from PIL import Image

    with Image.open(images.name(0)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(images, 0)), expected)
    assert isinstance(images.open(0), io.BufferedReader)


def test_a_resumed_run_draws_the_same_replacement(
    fcmae_recipe: Recipe,
    place: Path,
    tmp_path: Path,
    break_off: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        train(fcmae_recipe, data=place, out=tmp_path / "whole")
    assert "another image is taken" in caplog.text
    break_off(3)
    with pytest.raises(KeyboardInterrupt):
        train(fcmae_recipe, data=place, out=tmp_path / "broken")
    monkeypatch.undo()
    train(fcmae_recipe, data=place, out=tmp_path / "broken", resume=True)
    one, other = (tmp_path / name / folder.ENCODER for name in ("whole", "broken"))
    assert one.read_bytes() == other.read_bytes()
