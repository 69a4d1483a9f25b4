"""Images inside tar shards: found once by the members' headers, then one read at a known place."""

import io
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from pretrain.checks.parallel import parallel_map
from pretrain.data.index import Columns
from pretrain.data.names import Names
from pretrain.files.image import IMAGE_SUFFIXES

OPEN_SHARDS = 32  # a process; systems allow about a thousand open files
PROGRESS_FROM = 64  # shards

Member = tuple[bytes, int, int]  # name, offset, size


@dataclass
class Shards:
    """Images inside uncompressed tar files, in the order of shards and of members' names."""

    root: Path
    shards: Names  # relative to the root
    names: Names  # of the members
    shard: np.ndarray  # (n,) int32, which of `shards`
    offset: np.ndarray  # (n,) int64 bytes into the shard
    size: np.ndarray  # (n,) int64 bytes
    _handles: OrderedDict[int, int] = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def relative_name(self, index: int) -> str:
        """Return shard and member, relative to the root."""
        shard = self.shards[self.shard[index]]
        return f"{os.fsdecode(shard)}:{os.fsdecode(self.names[index])}"

    def name(self, index: int) -> str:
        """Return shard and member."""
        return str(self.root / self.relative_name(index))

    def open(self, index: int) -> IO[bytes]:
        """Return the member's bytes. Raises OSError where the shard has become shorter."""
        handle, size = self._handle(int(self.shard[index])), int(self.size[index])
        data = os.pread(handle, size, int(self.offset[index]))
        if len(data) < size:
            raise OSError(f"{self.name(index)}: the shard ends before its member does")
        return io.BytesIO(data)

    def _handle(self, shard: int) -> int:
        """Return an open shard; the one that was not read for longest is closed."""
        if shard in self._handles:
            self._handles.move_to_end(shard)
        else:
            path = self.root / os.fsdecode(self.shards[shard])
            self._handles[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._handles) > OPEN_SHARDS:
                os.close(self._handles.popitem(last=False)[1])
        return self._handles[shard]

    def subset(self, keep: np.ndarray) -> "Shards":
        """Return only those of `keep`, (n,) bool."""
        columns = (column[keep] for column in (self.shard, self.offset, self.size))
        return Shards(self.root, self.shards, self.names.subset(keep), *columns)

    def columns(self) -> Columns:
        """Return what `from_columns` takes."""
        return {
            "names": self.names.buffer,
            "starts": self.names.starts,
            "shards": self.shards.buffer,
            "shards_starts": self.shards.starts,
            "shard": self.shard,
            "offset": self.offset,
            "size": self.size,
        }

    @classmethod
    def from_columns(cls, root: Path, columns: Columns) -> "Shards":
        """Return the images of an index."""
        return cls(
            root,
            Names(columns["shards"], columns["shards_starts"]),
            Names(columns["names"], columns["starts"]),
            columns["shard"],
            columns["offset"],
            columns["size"],
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": OrderedDict()}


def index_shards(root: Path, shards: list[bytes], workers: int) -> Shards:
    """Find the images in the tar files `shards` below `root`, several at a time.

    Raises ValueError for a file that is compressed, truncated or not a tar file, and if there is
    no image.
    """
    progress = "indexing shards" if len(shards) >= PROGRESS_FROM else None
    work = partial(_index_shard, root)
    found = list(parallel_map(work, shards, workers=workers, progress=progress, pool_from=2))
    counts = [len(sizes) for _, _, sizes in found]
    if not sum(counts):
        raise ValueError(f"no image in {len(shards)} shards below {root}")
    joined = b"\0".join(names for (names, _, _), count in zip(found, counts, strict=True) if count)
    return Shards(
        root,
        Names.of(shards),
        Names.of(joined.split(b"\0")),
        np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        np.concatenate([offsets for _, offsets, _ in found]),
        np.concatenate([sizes for _, _, sizes in found]),
    )


def _index_shard(root: Path, shard: bytes) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return names (with a zero byte between), offsets and sizes of a shard's images, by name."""
    path = root / os.fsdecode(shard)
    try:
        with tarfile.open(path, "r:") as archive:
            members = sorted(_images(archive))
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{path} is not a readable uncompressed tar ({error})") from error
    end = path.stat().st_size
    for name, offset, size in members:
        if offset + size > end:
            raise ValueError(f"{path} is truncated: {os.fsdecode(name)} ends after the file does")
    offsets = np.array([offset for _, offset, _ in members], dtype=np.int64)
    sizes = np.array([size for _, _, size in members], dtype=np.int64)
    return b"\0".join(name for name, _, _ in members), offsets, sizes


def _images(archive: tarfile.TarFile) -> Iterable[Member]:
    for member in archive:
        suffix = os.path.splitext(member.name)[1].lower()  # noqa: PTH122 - a million names
        if suffix in IMAGE_SUFFIXES and member.isfile():
            yield os.fsencode(member.name), member.offset_data, member.size
        archive.members = []  # type: ignore[attr-defined] # or it keeps 2 KB of each
