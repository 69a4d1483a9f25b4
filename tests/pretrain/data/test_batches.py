"""Data: the same samples whatever reads them, in whatever order, from whatever kind of store."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.config import Augmentation
from pretrain.data.augment import augment, jitter_colors, random_box
from pretrain.data.batches import Batch, ImageSamples, loader, normalise, unnormalise
from pretrain.data.masks import random_visible
from pretrain.data.order import BatchShare, Order
from pretrain.data.readable import readable
from pretrain.data.reading import read_image
from pretrain.data.sources import Files, digest, open_images
from pretrain.schedule import RunLength

ROOT = Path(__file__).resolve().parents[3]
DRAW = partial(random_visible, grid=(2, 2), n_visible=1)
SETTINGS = Augmentation(color_jitter=0.4)


def samples(photos: Path, seed: int = 0, sizes: tuple[int, ...] = (64,)) -> ImageSamples:
    return ImageSamples(open_images(photos), SETTINGS, sizes, DRAW, seed)


def same(one: tuple, other: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_depends_on_seed_epoch_and_image_alone(photos: Path) -> None:
    first = samples(photos)[(1, 5)]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - global generators must not matter
    assert same(samples(photos)[(1, 5)], first)
    assert not same(samples(photos)[(2, 5)], first)
    assert not same(samples(photos, seed=1)[(1, 5)], first)


def test_shapes_and_types(photos: Path) -> None:
    image, token_image, visible = samples(photos, sizes=(64, 32))[(0, 0)]
    assert (image.shape, token_image.shape) == ((3, 64, 64), (3, 32, 32))
    assert image.dtype == token_image.dtype == torch.uint8
    assert visible.shape == (1, 2, 2)
    assert visible.sum() == 1


ORDER = Order(images=23, batch_size=8, steps_per_epoch=2, seed=3)


def test_an_epoch_takes_no_image_twice() -> None:
    first = np.concatenate([ORDER.images_of(0), ORDER.images_of(1)])
    assert len(set(first.tolist())) == 16
    second = np.concatenate([ORDER.images_of(2), ORDER.images_of(3)])
    assert first.tolist() != second.tolist()


def test_a_last_step_is_filled_with_the_first_images_of_the_epoch() -> None:
    filled = Order(images=23, batch_size=8, steps_per_epoch=3, seed=3)
    images = np.concatenate([filled.images_of(step) for step in range(3)])
    assert sorted(images[:23].tolist()) == list(range(23))
    assert images[23:].tolist() == images[:1].tolist()
    assert images[:16].tolist() == [*ORDER.images_of(0), *ORDER.images_of(1)]


def test_processes_share_what_one_takes() -> None:
    """With accumulation too: the parts of a step, put together, are the step."""
    for world, largest in ((2, 4), (2, 2), (4, 2), (1, 3)):
        parts = []
        share = BatchShare.of(8, largest, world)
        for index in range(share.accumulation_steps):
            for rank in range(world):
                parts.append(ORDER.images_of_pass(5, index, replace(share, rank=rank)))
        assert np.concatenate(parts).tolist() == ORDER.images_of(5).tolist()


def test_a_step_is_split_as_little_as_the_device_allows() -> None:
    assert BatchShare.of(4096, 256, 8) == BatchShare(
        world=8, rank=0, batch=256, accumulation_steps=2
    )
    assert (
        str(BatchShare.of(4096, 200, 8)) == "4096 images per step = 8 devices x 128 x 4 accumulated"
    )
    with pytest.raises(ValueError, match="batch_size=10 cannot be shared by 4"):
        BatchShare.of(10, 8, 4)


def read(photos: Path, first: int, workers: int) -> list[Batch]:
    length, share = RunLength(steps=4, warmup_steps=0, steps_per_epoch=2), BatchShare.of(8, 4)
    return list(loader(samples(photos), ORDER, share, length.steps, first, workers, pin=False))


def test_workers_and_a_later_start_change_nothing(photos: Path) -> None:
    whole = read(photos, 0, 0)
    assert len(whole) == 8
    for batches in (read(photos, 0, 2), read(photos, 3, 0)):
        for one, other in zip(batches, whole[-len(batches) :], strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.visible, other.visible)


def test_a_later_start_reads_no_earlier_image(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    whole = Files.open

    def open_(self: Files, index: int) -> io.BufferedReader:
        opened.append(index)
        return whole(self, index)  # type: ignore[return-value]

    monkeypatch.setattr(Files, "open", open_)
    read(photos, 3, 0)
    assert sorted(opened) == sorted(ORDER.images_of(3).tolist())


READS_AND_FAILS = """
import signal, sys
from pathlib import Path
from tests.pretrain.data.test_batches import ORDER, samples
from pretrain.data.batches import loader
from pretrain.data.order import BatchShare

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)  # as a run does, which finishes its step first
batches = loader(samples(Path(sys.argv[1])), ORDER, BatchShare.of(8, 8), 20, 0, 2, False)
for _ in range(4):
    next(batches)
print("reading", flush=True)
sys.stdin.readline()
for _ in range(16):
    next(batches)
raise RuntimeError("no space left")
"""


def test_workers_outlive_the_groups_signals_but_not_a_failed_main_process(photos: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", READS_AND_FAILS, str(photos)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.killpg(process.pid, number)
            time.sleep(0.2)  # equal signals that wait are one
        _, errors = process.communicate("\n", timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert errors.rstrip().endswith("RuntimeError: no space left")


def to_list(photos: Path, root: Path) -> Path:
    names = sorted(p.relative_to(photos) for p in photos.rglob("*.*"))
    path = root / "list.txt"
    path.write_text("# all of them\n\n" + "\n".join(str(photos / n) for n in names) + "\n")
    return path


def to_shards(photos: Path, root: Path) -> Path:
    names = sorted(str(p.relative_to(photos)) for p in photos.rglob("*.*"))
    (root / "shards").mkdir()
    for number, part in enumerate((names[:10], names[10:])):
        with tarfile.open(root / "shards" / f"part-{number}.tar", "w") as archive:
            for name in reversed(part):  # the order inside a shard does not matter
                archive.add(photos / name, name)
    return root / "shards"


@pytest.mark.parametrize("store", [to_list, to_shards])
def test_lists_and_shards_hold_what_the_folder_holds(
    store: Callable[[Path, Path], Path], photos: Path, tmp_path: Path
) -> None:
    folder, other = open_images(photos), open_images(store(photos, tmp_path))
    assert len(folder) == len(other) == 24
    for i in range(24):
        assert Path(folder.name(i)).name == Path(other.name(i).rpartition(":")[2]).name
        assert read_image(folder, i).tobytes() == read_image(other, i).tobytes()


def test_one_shard_and_its_workers(photos: Path, tmp_path: Path) -> None:
    shard = to_shards(photos, tmp_path) / "part-0.tar"
    for batches in (read(shard.parent, 2, 0), read(shard.parent, 2, 1)):
        assert len(batches) == 4
    assert len(open_images(shard)) == 10


def test_truncated_shards_are_refused(photos: Path, tmp_path: Path) -> None:
    shard = to_shards(photos, tmp_path) / "part-0.tar"
    with shard.open("r+b") as handle:
        handle.truncate(3000)
    with pytest.raises(ValueError, match=r"part-0\.tar"):
        open_images(shard)


@pytest.mark.parametrize("kind", ["missing", "empty", "both", "list"])
def test_no_images_is_one_clear_error(kind: str, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "data"
    if kind != "missing":
        place.mkdir()
    if kind == "both":
        to_shards(photos, place)
        (place / "a.png").write_bytes((photos / "001.png").read_bytes())
    if kind == "list":
        place = place / "list.txt"
        place.write_text("# nothing\n")
    says = {
        "missing": "no data at",
        "empty": "holds no image",
        "both": "holds both images and",
        "list": "names no image",
    }
    with pytest.raises((FileNotFoundError, ValueError), match=says[kind]):
        open_images(place)


def broken(photos: Path, root: Path) -> Path:
    """A copy with a truncated JPEG, an empty PNG and a text that says it is a JPEG."""
    for path in photos.rglob("*.*"):
        target = root / "images" / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    data = (photos / "more/000.jpg").read_bytes()
    (root / "images/more/000.jpg").write_bytes(data[: len(data) // 2])
    (root / "images/001.png").write_bytes(b"")
    (root / "images/more/002.jpg").write_text("no image")
    return root / "images"


@pytest.mark.parametrize("shards", [False, True])
def test_unreadable_images_are_named_before_training(
    shards: bool, photos: Path, tmp_path: Path
) -> None:
    place = broken(photos, tmp_path)
    images = open_images(to_shards(place, tmp_path) if shards else place)
    with pytest.raises(ValueError, match="the data has 3 errors") as error:
        readable(images, skip=False, workers=1)
    for name in ("000.jpg", "001.png", "002.jpg"):
        assert name in str(error.value)
    good, skipped = readable(images, skip=True, workers=1)
    assert (len(good), len(skipped)) == (21, 3)
    assert digest(good) != digest(images)


def test_nothing_readable_is_refused_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="not one of 1 images"):
        readable(open_images(tmp_path), skip=True, workers=1)


def test_an_image_that_breaks_later_is_named(photos: Path, tmp_path: Path) -> None:
    images = open_images(broken(photos, tmp_path))
    with pytest.raises(ValueError, match=r"001\.png cannot be read"):
        read_image(images, 0)


def test_boxes_keep_to_scale_and_ratio() -> None:
    rng, size = np.random.default_rng(0), (200, 150)
    for _ in range(300):
        left, top, right, bottom = random_box(rng, size, (0.2, 1.0), (3 / 4, 4 / 3))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 150
        width, height = right - left, bottom - top
        assert 0.19 <= width * height / 30_000 <= 1.0
        assert 0.72 <= width / height <= 1.37


def test_a_long_image_falls_back_to_the_middle() -> None:
    """torchvision's RandomResizedCrop does the same after ten tries."""
    rng = np.random.default_rng(0)
    assert random_box(rng, (1000, 20), (0.9, 1.0), (3 / 4, 4 / 3)) == (486, 0, 513, 20)


def test_both_crops_of_beit_show_the_same_box() -> None:
    ramp = np.linspace(0, 255, 120, dtype=np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (90, 1))] * 3, axis=-1))
    large, small = augment(np.random.default_rng(2), image, Augmentation(), (64, 32))
    shrunk = np.asarray(large.resize((32, 32), Image.Resampling.BOX)).astype(int)
    assert abs(shrunk - np.asarray(small).astype(int)).max() <= 3


def test_images_are_resized_bicubic_and_token_images_with_lanczos() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 80, 3), dtype=np.uint8))
    settings = Augmentation(flip=0.0)
    large, small = augment(np.random.default_rng(4), image, settings, (64, 32))
    rng = np.random.default_rng(4)
    rng.random()  # the flip's
    crop = image.crop(random_box(rng, image.size, settings.crop_scale, settings.crop_ratio))
    assert large.tobytes() == crop.resize((64, 64), Image.Resampling.BICUBIC).tobytes()
    assert small.tobytes() == crop.resize((32, 32), Image.Resampling.LANCZOS).tobytes()


def test_flips_happen_as_often_as_told() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (64, 1))] * 3, axis=-1))
    rising = []
    for seed in range(200):
        (crop,) = augment(np.random.default_rng(seed), image, Augmentation(), (32,))
        row = np.asarray(crop)[16, :, 0].astype(int)
        rising.append(row[-1] > row[0])
    assert 70 < sum(rising) < 130


def test_jitter_is_torchvisions() -> None:
    """The same factors in the same order give torchvision's pixels."""
    from torchvision.transforms import functional

    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (9, 9, 3), dtype=np.uint8))
    rng = np.random.default_rng(5)
    factors, order = rng.uniform(0.6, 1.4, size=3), rng.permutation(3)
    adjust = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    )
    expected = image
    for i in order:
        expected = adjust[i](expected, float(factors[i]))
    assert jitter_colors(np.random.default_rng(5), image, 0.4).tobytes() == expected.tobytes()


def test_normalise_and_back() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    there = normalise(images, SETTINGS)
    expected = (images[:, 0] / 255 - 0.485) / 0.229
    torch.testing.assert_close(there[:, 0], expected)
    torch.testing.assert_close(unnormalise(there, SETTINGS), images / 255)
