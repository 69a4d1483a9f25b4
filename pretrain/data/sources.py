"""Where the images lie: a folder at any depth, a text list, or tar shards; no classes needed.

All three are the same to the rest: a fixed order of images, each read by its number. Large folders
and shards are looked through once; index.py says where the result is kept.
"""

import hashlib
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from pretrain.data.index import (
    SETTLED_NS,
    Columns,
    changes,
    index_file,
    read_index,
    recent,
    unchanged,
    write_index,
)
from pretrain.data.names import Names
from pretrain.data.shards import Shards, index_shards
from pretrain.files.find import find_files
from pretrain.files.image import IMAGE_SUFFIXES, open_regular

logger = logging.getLogger(__name__)

SAMPLED = 8  # images whose bytes tell whether a resumed run has those that it began with
KEPT_FROM = 10_000  # images; fewer are found again as fast


class ImageSource(Protocol):
    """Images in a fixed order, each read by its number."""

    def __len__(self) -> int: ...

    def relative_name(self, index: int) -> str:
        """Return a name that does not depend on where the data lies."""

    def name(self, index: int) -> str:
        """Return a name to find the image by."""

    def open(self, index: int) -> IO[bytes]:
        """Return the image as an open file."""


@dataclass
class Files:
    """Image files below `root`, by relative name."""

    root: Path
    names: Names

    def __len__(self) -> int:
        return len(self.names)

    def relative_name(self, index: int) -> str:
        """Return the file's path relative to the root; as written in a list."""
        return os.fsdecode(self.names[index])

    def name(self, index: int) -> str:
        """Return the file's path."""
        return str(self.root / self.relative_name(index))

    def open(self, index: int) -> IO[bytes]:
        """Return the open file, to be closed by the caller. Raises OSError."""
        return open_regular(self.name(index))

    def subset(self, keep: np.ndarray) -> "Files":
        """Return only those of `keep`, (n,) bool."""
        return Files(self.root, self.names.subset(keep))

    def columns(self) -> Columns:
        """Return what `from_columns` takes."""
        return {"names": self.names.buffer, "starts": self.names.starts}

    @classmethod
    def from_columns(cls, root: Path, columns: Columns) -> "Files":
        """Return the images of an index."""
        return cls(root, Names(columns["names"], columns["starts"]))


Images = Files | Shards


def digest(images: Images) -> str:
    """Hash the image names in their order; equal digests mean the same data order."""
    return images.names.digest()


def sampled_bytes(images: Images) -> dict[str, str]:
    """Return the SHA-256 of some images by name, those of them that can be read."""
    found = {}
    for index in range(0, len(images), -(-len(images) // SAMPLED)):
        with suppress(OSError), images.open(index) as stream:
            found[images.relative_name(index)] = hashlib.sha256(stream.read()).hexdigest()
    return found


def open_images(path: Path | str, workers: int = 1) -> Images:
    """Return the images at `path`: a folder (of images or of .tar shards), a .tar, or a text list.

    `workers` processes look through shards that were not seen before. Raises FileNotFoundError or
    ValueError if there is no image.
    """
    if not str(path):
        raise ValueError("the path of the images is empty: is a variable unset?")
    path = Path(path)
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(
            f"no data at {path}: give a folder of images, a folder of .tar shards, a .tar file, "
            "or a text file with one image path a line"
        )
    if path.is_dir() or path.suffix == ".tar":
        return _kept(path) or _found(path, workers)
    return _list(path)


def _kept(path: Path) -> Images | None:
    """Return the images of an index made before; None if there is none or something changed."""
    file = index_file(path)
    columns = read_index(file)
    root = path if path.is_dir() else path.parent
    if columns is None or not unchanged(root, columns):
        return None
    logger.info("images as indexed in %s", file)
    kind = Shards if "shards" in columns else Files
    return kind.from_columns(root, columns)


def _found(path: Path, workers: int) -> Images:
    """Look through a folder or a shard, and keep what was found if it is much.

    A folder that changed a moment ago is listed again later: a change within the same tick of the
    file system's clock would never show.
    """
    root = path if path.is_dir() else path.parent
    for _ in range(2):
        files, watched, before = _look(path)
        fresh = recent(before)
        images = _shards_or_files(root, files, workers)
        if len(images) < KEPT_FROM:
            return images
        if not fresh:
            break
        time.sleep(SETTLED_NS / 1e9)
    if fresh or not np.array_equal(changes(root, watched), before):
        logger.warning("%s changes while it is read: its index is not kept", path)
        return images
    names = Names.of(watched)
    columns = {"watched": names.buffer, "watched_starts": names.starts, "changes": before}
    file = index_file(path)
    if not write_index(file, {**images.columns(), **columns}):
        return images
    logger.info("%d images indexed in %s", len(images), file)
    return _kept(path) or images


def _look(path: Path) -> tuple[list[bytes], list[bytes], np.ndarray]:
    """Return images or shards, all that the index depends on, and the `changes` of the latter."""
    if path.is_file():
        shards = [os.fsencode(path.name)]
        return shards, shards, changes(path.parent, shards)
    found = find_files(path, {*IMAGE_SUFFIXES, ".tar"})
    shards = sorted(found.files.pop(".tar"))
    files = sorted(name for names in found.files.values() for name in names)
    if files and shards:
        raise ValueError(f"{path} holds both images and .tar shards: keep one kind in the folder")
    if not files and not shards:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{path} holds no image at any depth; expected {kinds} files, or .tar")
    folders = np.array([(changed, 0) for _, changed in found.folders], dtype=np.int64)
    watched = [name for name, _ in found.folders] + shards
    return files or shards, watched, np.concatenate([folders, changes(path, shards)])


def _shards_or_files(root: Path, files: list[bytes], workers: int) -> Images:
    if files[0].lower().endswith(b".tar"):
        return index_shards(root, files, workers)
    return Files(root, Names.of(files))


def _list(path: Path) -> Files:
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file with one image path a line") from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path} names no image: write one path a line, relative to its folder")
    return Files(path.parent, Names.of([os.fsencode(name) for name in names]))
