"""CIFAR-100 as published: the binary version, or the Python version without running its pickles.

cifar-100-binary.tar.gz   train.bin, test.bin: a byte of coarse, a byte of fine label, 3 x 32 x 32
cifar-100-python.tar.gz   train, test, meta: pickles, read by pretrain.files.arrays

Either may be unpacked. The classes are the 100 fine ones, in the order of the archive.
"""

import io
import pickle
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pretrain.files.arrays import load_arrays

SIDE = 32  # pixels
KINDS = ("cifar-100-binary", "cifar-100-python")
FILES = {"train": "train", "val": "test"}
LABELS = "fine_label_names.txt"
MOST_BYTES = 200_000_000  # of a file: 50,000 images are 154 MB


@dataclass
class PixelImages:
    """Images held in memory, (n, 3, s, s) uint8 RGB."""

    pixels: np.ndarray
    place: str

    def __len__(self) -> int:
        return len(self.pixels)

    def relative_name(self, index: int) -> str:
        """Return the image's number in its file."""
        return f"{self.place.rpartition('/')[2]}:{index}"

    def name(self, index: int) -> str:
        """Return file and number."""
        return f"{self.place}:{index}"

    def open(self, index: int) -> IO[bytes]:
        """Return the image as a PPM file."""
        side = self.pixels.shape[-1]
        rows = np.ascontiguousarray(self.pixels[index].transpose(1, 2, 0))
        return io.BytesIO(b"P6 %d %d 255\n" % (side, side) + rows.tobytes())


def cifar_archive(root: Path) -> Path | None:
    """Return CIFAR-100 at `root`: the archive, or the unpacked folder; None if there is none."""
    for place in (root, *(root / kind for kind in KINDS)):
        if (place / "train.bin").is_file() or (place / "meta").is_file():
            return place
    for place in (root, *(root / f"{kind}.tar.gz" for kind in KINDS)):
        if place.is_file() and place.name.removesuffix(".tar.gz") in KINDS:
            return place
    return None


def read_cifar(place: Path, split: str) -> tuple[PixelImages, np.ndarray, tuple[str, ...]]:
    """Return images, labels and classes of the split "train" or "val", which is CIFAR's test.

    Raises ValueError for a file that is not CIFAR-100's.
    """
    name = FILES[split]
    try:
        if _is_binary(place):
            with _opened(place, f"{name}.bin") as file:
                content = np.frombuffer(file.read(), dtype=np.uint8)
            rows = content.reshape(-1, 2 + 3 * SIDE * SIDE)
            labels, pixels = rows[:, 1].astype(np.int64), rows[:, 2:]
            with _opened(place, LABELS) as file:
                classes = tuple(file.read().decode().split())
            name = f"{name}.bin"
        else:
            content, meta = _unpickled(place, name), _unpickled(place, "meta")
            labels, pixels = np.array(content["fine_labels"], np.int64), content["data"]
            classes = tuple(map(str, meta["fine_label_names"]))
        pixels = np.asarray(pixels, dtype=np.uint8).reshape(-1, 3, SIDE, SIDE)
    except (ValueError, KeyError, TypeError, pickle.UnpicklingError, tarfile.TarError) as error:
        raise ValueError(f"{place} is not CIFAR-100 as published: {error}") from error
    if len(labels) != len(pixels) or labels.max(initial=0) >= len(classes):
        raise ValueError(f"{place}: {len(pixels)} images, {len(labels)} labels, {classes[:3]} ...")
    return PixelImages(pixels, f"{place}/{name}"), labels, classes


def _is_binary(place: Path) -> bool:
    return place.name.startswith(KINDS[0]) or (place / "train.bin").is_file()


def _unpickled(place: Path, name: str) -> Any:
    with _opened(place, name) as file:
        return load_arrays(file)


@contextmanager
def _opened(place: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file of the folder or of the archive."""
    if place.is_dir():
        with (place / name).open("rb") as file:
            yield file
        return
    kind = place.name.removesuffix(".tar.gz")
    with tarfile.open(place, "r:gz") as archive:
        for member in archive:
            if member.size > MOST_BYTES:
                raise ValueError(
                    f"{member.name} is said to be {member.size} bytes long, CIFAR-100's longest "
                    f"file is below {MOST_BYTES}"
                )
            if member.name == f"{kind}/{name}" and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                yield io.BytesIO(content.read())
                return
        raise ValueError(f"there is no file {kind}/{name} in it")
