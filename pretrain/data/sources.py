"""Where the images lie: a folder at any depth, a text list, or tar shards; no classes needed.

All three are the same to the rest: a fixed order of images, each read by its number. A shard is
indexed once by its headers; after that an image is one read at a known offset.
"""

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from pretrain.checks.findings import Findings, refuse_errors
from pretrain.checks.images import IMAGE_SUFFIXES, read_images
from pretrain.checks.parallel import parallel_map

ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # other formats have to be decoded


@dataclass
class Files:
    """Image files below `root`, by relative name."""

    root: Path
    names: np.ndarray  # bytes: no Python objects whose reference counts would copy worker memory

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.root / os.fsdecode(self.names[index].item()))

    def open(self, index: int) -> IO[bytes]:
        """The file, to be closed by the caller."""
        return Path(self.name(index)).open("rb")

    def subset(self, keep: np.ndarray) -> "Files":
        """Only those of `keep`, (n,) bool."""
        return Files(self.root, self.names[keep])

    def problems(self, decode: bool, workers: int, progress: str | None) -> dict[int, str]:
        """What is wrong with which image."""
        paths = [self.name(i) for i in range(len(self))]
        facts = read_images(paths, decode=decode, workers=workers, progress=progress)
        return {i: f.problem for i, f in enumerate(facts) if f.problem}


@dataclass
class Shards:
    """Images inside uncompressed tar files, in the order of shards and of members' names."""

    shards: list[Path]
    names: np.ndarray  # bytes, of the members
    shard: np.ndarray  # (n,) which of `shards`
    offset: np.ndarray  # (n,) bytes into the shard
    size: np.ndarray  # (n,) bytes
    _handles: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Shard and member."""
        return f"{self.shards[self.shard[index]]}:{os.fsdecode(self.names[index].item())}"

    def open(self, index: int) -> IO[bytes]:
        """The member's bytes."""
        key = (os.getpid(), int(self.shard[index]))
        if key not in self._handles:
            self._handles[key] = os.open(self.shards[key[1]], os.O_RDONLY)
        size = int(self.size[index])
        return io.BytesIO(os.pread(self._handles[key], size, int(self.offset[index])))

    def subset(self, keep: np.ndarray) -> "Shards":
        """Only those of `keep`, (n,) bool."""
        columns = (self.names, self.shard, self.offset, self.size)
        return Shards(self.shards, *(column[keep] for column in columns))

    def problems(self, decode: bool, workers: int, progress: str | None) -> dict[int, str]:
        """What is wrong with which image; truncated shards were found by indexing them."""
        check = partial(_member_problem, self, decode)
        found = parallel_map(check, range(len(self)), workers=workers, progress=progress)
        return {i: problem for i, problem in enumerate(found) if problem}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handles": {}}


Images = Files | Shards


def read_image(images: Images, index: int) -> Image.Image:
    """Image `index` as RGB, as its pixels are stored (EXIF rotation is not applied: the papers').

    ValueError names the file that cannot be decoded.
    """
    try:
        with images.open(index) as stream, Image.open(stream) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{images.name(index)} cannot be read ({error}); find all such files with "
            "tools/check_data.py images DIR, or leave them out with --skip-unreadable"
        ) from error


def digest(images: Images) -> str:
    """Of the names in their order: the same digest means the same data order."""
    return hashlib.sha256(b"\0".join(images.names.tolist())).hexdigest()


def open_images(path: Path | str, workers: int = 1) -> Images:
    """The images at `path`: a folder (of images or of .tar shards), a .tar, or a text list.

    Raises FileNotFoundError or ValueError where there is none.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, workers)
    if not path.is_file():
        raise FileNotFoundError(
            f"no data at {path}: give a folder of images, a folder of .tar shards, a .tar file, "
            "or a text file with one image path a line"
        )
    if path.suffix == ".tar":
        return _shards([path], workers)
    return _list(path)


def _folder(root: Path, workers: int) -> Images:
    found: list[bytes] = []
    shards: list[Path] = []
    for folder, _, names in os.walk(root, followlinks=True):
        prefix = os.path.relpath(folder, root)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million names
            if suffix in IMAGE_SUFFIXES:
                found.append(os.fsencode(name if prefix == "." else f"{prefix}/{name}"))
            elif suffix == ".tar":
                shards.append(Path(folder, name))
    if found and shards:
        raise ValueError(f"{root} holds both images and .tar shards: keep one kind in the folder")
    if shards:
        return _shards(sorted(shards), workers)
    if not found:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{root} holds no image at any depth; expected {kinds} files, or .tar")
    return Files(root, np.array(sorted(found)))


def _list(path: Path) -> Files:
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file with one image path a line") from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path} names no image: write one path a line, relative to its folder")
    return Files(path.parent, np.array([os.fsencode(name) for name in names]))


def _shards(shards: list[Path], workers: int) -> Shards:
    members: list[list[tuple[bytes, int, int]]] = list(
        parallel_map(_index_shard, shards, workers=workers)
    )
    rows = [(*member, i) for i, found in enumerate(members) for member in found]
    if not rows:
        raise ValueError(f"no image in {len(shards)} shards, the first of them {shards[0]}")
    names, offsets, sizes, numbers = zip(*rows, strict=True)
    columns = (np.array(numbers), np.array(offsets), np.array(sizes))
    return Shards(shards, np.array(names), *columns)


def _index_shard(path: Path) -> list[tuple[bytes, int, int]]:
    """(name, offset, size) of every image in an uncompressed tar, by name."""
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            found = [
                (os.fsencode(member.name), member.offset_data, member.size)
                for member in archive
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
            ]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no readable uncompressed tar ({error})") from error
    for name, offset, size in found:
        if offset + size > end:
            raise ValueError(f"{path} is truncated: {os.fsdecode(name)} ends after the file does")
    return sorted(found)


def _member_problem(shards: Shards, decode: bool, index: int) -> str:
    try:
        with shards.open(index) as stream, Image.open(stream) as image:
            stream.seek(0)
            ending = ENDINGS.get(image.format or "")
            if decode or ending is None:
                image.load()
            elif not stream.read(int(shards.size[index])).endswith(ending):
                return "the image's end is missing"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)
    return ""


def readable(
    images: Images, *, skip: bool, workers: int, progress: str | None = None
) -> tuple[Images, list[str]]:
    """The images that can be read, and the names of those left out.

    Without `skip`, one ValueError names the unreadable ones, from headers and end markers (half a
    millisecond each). With it every image is decoded once.
    """
    problems = images.problems(skip, workers, progress)
    if not problems:
        return images, []
    names = [images.name(i) for i in problems]
    if not skip:
        findings = Findings()
        for name, problem in zip(names, problems.values(), strict=True):
            fix = "copy it again, delete it, or leave it out with --skip-unreadable"
            findings.error("image-unreadable", name, problem, fix)
        refuse_errors(findings.all())
    if len(names) == len(images):
        raise ValueError(f"not one of {len(names)} images can be read, e.g. {names[0]}")
    keep = np.ones(len(images), dtype=bool)
    keep[list(problems)] = False
    return images.subset(keep), names
