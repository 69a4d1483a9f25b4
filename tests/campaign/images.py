"""Images, lists and shards to pretrain on that are broken, missing, or not what they say."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from tests.campaign.case import Case, Place
from tests.campaign.world import PRETRAIN

BAD = PRETRAIN.replace("{w}/images", "{o}/data") + " --check-images"


def folder(place: Place) -> Path:
    """Return a copy of the sound images."""
    return place.copy("images", "data")


def with_file(name: str, content: bytes) -> Callable[[Place], None]:
    """Prepare the sound images and one more file."""
    return lambda place: (folder(place) / name).write_bytes(content) and None


def jpeg() -> bytes:
    """Return a sound JPEG."""
    stream = io.BytesIO()
    Image.effect_noise((80, 80), 50).save(stream, "jpeg")
    return stream.getvalue()


def empty(place: Place) -> None:
    (place.own / "data").mkdir()


def no_image(place: Place) -> None:
    empty(place)
    (place.own / "data" / "readme.txt").write_text("nothing")


def dangling(place: Place) -> None:
    (folder(place) / "gone.jpg").symlink_to("nowhere.jpg")


def fifo(place: Place) -> None:
    os.mkfifo(folder(place) / "pipe.jpg")


def unreadable_folder(place: Place) -> None:
    (place.own / "data").write_text("a file")


def listed(text: str) -> Callable[[Place], None]:
    """Prepare a list of images in place of a folder."""

    def prepare(place: Place) -> None:
        folder(place).rename(place.own / "images")
        (place.own / "data.txt").write_text(text)

    return prepare


def shard(name: str, content: Callable[[tarfile.TarFile], None] | bytes) -> Callable[[Place], None]:
    """Prepare one tar shard."""

    def prepare(place: Place) -> None:
        path = place.own / name
        if isinstance(content, bytes):
            path.write_bytes(content)
            return
        with tarfile.open(path, "w") as tar:
            content(tar)

    return prepare


def member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


FOLDERS: dict[str, tuple[Callable[[Place], None], str]] = {
    "empty": (empty, "no image"),
    "no-image": (no_image, "no image"),
    "is-a-file": (unreadable_folder, "data|a file|1 images"),
    "missing": (lambda _: None, "data"),
    "not-a-jpeg": (with_file("bad.jpg", b"not a jpeg"), r"bad\.jpg"),
    "empty-file": (with_file("empty.png", b""), r"empty\.png"),
    "truncated": (with_file("cut.jpg", jpeg()[:700]), r"cut\.jpg"),
    "html": (with_file("page.jpg", b"<html>404</html>"), r"page\.jpg"),
    "dangling-link": (dangling, r"gone\.jpg"),
    "fifo": (fifo, r"pipe\.jpg"),
}
LISTS = {
    "empty": ("", "no image"),
    "missing-file": ("images/0.jpg\nimages/99.jpg\n", r"99\.jpg"),
    "blank-lines": ("\n\n\n", "no image"),
    "binary": ("\x00\x01\x02\n", "(?i)data.txt|null|no image"),
    "a-folder": ("images\n", "images"),
}
SHARDS: dict[str, tuple[str, Callable[[tarfile.TarFile], None] | bytes, str]] = {
    "not-a-tar": ("data.tar", b"not a tar" * 100, r"data\.tar"),
    "empty-file": ("data.tar", b"", r"data\.tar"),
    "no-image": ("data.tar", lambda tar: member(tar, "a.txt", b"text"), "no image|data.tar"),
    "broken-image": (
        "data.tar",
        lambda tar: [member(tar, f"{i}.jpg", jpeg() if i else b"bad") for i in range(8)] and None,
        r"0\.jpg",
    ),
}


def cases() -> Iterator[Case]:
    """Yield a case for each bad set of images, to pretrain on and to check."""
    for name, (prepare, expect) in FOLDERS.items():
        yield Case(f"images-folder-{name}", "pretrain", BAD, expect, prepare)
        words = "images {o}/data"
        yield Case(f"check-images-{name}", "check_data", words, expect, prepare, (1, 2))
    for name, (text, expect) in LISTS.items():
        words = BAD.replace("{o}/data", "{o}/data.txt")
        yield Case(f"images-list-{name}", "pretrain", words, expect, listed(text))
    for name, (file, content, expect) in SHARDS.items():
        words = BAD.replace("{o}/data", f"{{o}}/{file}")
        yield Case(f"images-shard-{name}", "pretrain", words, expect, shard(file, content))
    words = "--data {o}/data --out {o}/tokenizer.safetensors --image-size 64 --device cpu"
    for name in ("empty", "missing", "is-a-file"):
        prepare, expect = FOLDERS[name]
        yield Case(
            f"tokenizer-folder-{name}",
            "train_tokenizer",
            words,
            expect,
            prepare,
            may_write=("tokenizer",),  # which images there are; it does not occupy the folder
        )
