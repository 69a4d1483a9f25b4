"""Where the images lie: found once, remembered while nothing changes, whatever lies among them."""

import hashlib
import os
import pickle
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pretrain.data import shards as shards_module
from pretrain.data import sources
from pretrain.data.index import index_file
from pretrain.data.names import Names
from pretrain.data.reading import read_image
from pretrain.data.shards import Shards
from pretrain.data.sources import digest, open_images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep indexes of any size in a folder of the test's."""
    monkeypatch.setenv("MIM_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "KEPT_FROM", 1)
    monkeypatch.setattr(sources, "SETTLED_NS", 0)
    return tmp_path / "cache"


def age(place: Path) -> None:
    """Make what lies in `place` an hour old, so that its times can be trusted."""
    hour_ago = time.time() - 3600
    for path in (place, *place.rglob("*")):
        os.utime(path, (hour_ago, hour_ago))


def copy_of(photos: Path, target: Path) -> Path:
    shutil.copytree(photos, target)
    age(target)
    return target


def packed(photos: Path, target: Path) -> Path:
    """Three shards; the images in them as in the folder."""
    target.mkdir()
    names = sorted(str(p.relative_to(photos)) for p in photos.rglob("*.*"))
    for number in range(3):
        with tarfile.open(target / f"part-{number}.tar", "w") as archive:
            for name in names[8 * number : 8 * (number + 1)]:
                archive.add(photos / name, name)
    age(target)
    return target


def relative_names(images: sources.Images) -> list[str]:
    return [images.relative_name(i) for i in range(len(images))]


def test_names_in_one_buffer() -> None:
    given = [b"a/b.jpg", b"", "\u00e9.png".encode(), b"z"]
    names = Names.of(given)
    assert list(names) == given
    assert list(names.subset(np.array([True, False, False, True]))) == [b"a/b.jpg", b"z"]
    assert names.digest() == hashlib.sha256(b"\0".join(given)).hexdigest()
    assert list(Names.of([])) == []


@pytest.mark.parametrize("store", [copy_of, packed])
def test_a_second_start_looks_through_nothing(
    store: Callable[[Path, Path], Path],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = store(photos, tmp_path / "data")
    first = open_images(place)
    monkeypatch.setattr(sources, "_found", None)  # to look again would fail
    second = open_images(place)
    assert relative_names(second) == relative_names(first)
    assert digest(second) == digest(first)
    assert isinstance(second.names.buffer.base, np.memmap)
    for i in (0, 13, 23):
        assert read_image(second, i).tobytes() == read_image(first, i).tobytes()
    assert relative_names(pickle.loads(pickle.dumps(second))) == relative_names(first)


def add_image(place: Path) -> None:
    target = place / ("new.jpg" if (place / "more").is_dir() else "part-3.tar")
    source = next(p for p in place.rglob("*") if p.suffix == target.suffix)
    shutil.copy(source, target)


def remove_one(place: Path) -> None:
    next(p for p in sorted(place.rglob("*")) if p.is_file()).unlink()


def rewrite_one(place: Path) -> None:
    (place / "part-1.tar").write_bytes((place / "part-0.tar").read_bytes())


@pytest.mark.parametrize(
    ("store", "change"),
    [
        (copy_of, add_image),
        (copy_of, remove_one),
        (packed, add_image),
        (packed, remove_one),
        (packed, rewrite_one),
    ],
)
def test_changed_data_is_looked_through_again(
    store: Callable[[Path, Path], Path],
    change: Callable[[Path], None],
    photos: Path,
    tmp_path: Path,
) -> None:
    place = store(photos, tmp_path / "data")
    before = relative_names(open_images(place))
    change(place)
    after = relative_names(open_images(place))
    assert after != before
    age(place)
    assert relative_names(open_images(place)) == after


def test_data_that_changed_just_now_is_not_trusted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the clock a folder can change twice and show it once."""
    monkeypatch.undo()
    monkeypatch.setenv("MIM_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "KEPT_FROM", 1)
    monkeypatch.setattr(sources.time, "sleep", lambda _: None)
    place = copy_of(photos, tmp_path / "data")
    os.utime(place)
    open_images(place)
    assert not index_file(place).exists()
    age(place)
    open_images(place)
    assert index_file(place).exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08" + b"\0" * 7 + b"{}      "])
def test_a_broken_index_is_made_anew(content: bytes, photos: Path, tmp_path: Path) -> None:
    place = copy_of(photos, tmp_path / "data")
    whole = relative_names(open_images(place))
    index_file(place).write_bytes(content)
    assert relative_names(open_images(place)) == whole


def test_a_cache_that_cannot_be_written_is_said_and_survived(
    photos: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file in its place")
    assert len(open_images(copy_of(photos, tmp_path / "data"))) == 24
    assert "MIM_TRANSFER_CACHE" in caplog.text


def test_few_shards_are_open_at_a_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "OPEN_SHARDS", 2)
    images = open_images(packed(photos, tmp_path / "data"))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for i in (0, 9, 20, 1, 10, 21, 2):
        read_image(images, i)
    assert isinstance(images, Shards)
    assert len(images._handles) == 2
    assert len(os.listdir("/proc/self/fd")) == before + 2  # noqa: PTH208


def test_shards_are_indexed_by_several_processes(photos: Path, tmp_path: Path) -> None:
    place = packed(photos, tmp_path / "data")
    alone = open_images(place)
    index_file(place).unlink()
    assert relative_names(open_images(place, workers=2)) == relative_names(alone)


def test_a_compressed_shard_is_refused(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(photos / "001.png", "001.png")
    with pytest.raises(ValueError, match=r"a\.tar is not a readable uncompressed tar"):
        open_images(tmp_path / "a.tar")


def test_links_in_a_circle_are_followed_once(photos: Path, tmp_path: Path) -> None:
    place = copy_of(photos, tmp_path / "data")
    (place / "more" / "up").symlink_to(place)
    (place / "itself").symlink_to("itself")
    assert len(open_images(place)) == 24
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked").symlink_to(place)
    assert len(open_images(elsewhere)) == 24


def test_a_fifo_and_a_link_to_nothing_are_images_that_cannot_be_read(
    photos: Path, tmp_path: Path
) -> None:
    place = copy_of(photos, tmp_path / "data")
    os.mkfifo(place / "000.png")
    (place / "002.png").symlink_to("nowhere.png")
    images = open_images(place)
    assert relative_names(images)[0] == "000.png"
    with pytest.raises(ValueError, match=r"000\.png is not a regular file"):
        read_image(images, 0)
    with pytest.raises(ValueError, match=r"002\.png cannot be read: No such file"):
        read_image(images, relative_names(images).index("002.png"))


def test_an_empty_path_is_not_the_current_folder(photos: Path, monkeypatch) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(ValueError, match="is empty"):
        open_images("")


def test_a_folder_that_cannot_be_listed_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = copy_of(photos, tmp_path / "data")
    whole = os.scandir

    def scandir(path: bytes) -> object:
        if path.endswith(b"more"):
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"more cannot be listed \(Permission denied\)"):
        open_images(place)
