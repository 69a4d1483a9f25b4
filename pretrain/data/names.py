"""Names of millions of images in one buffer.

A list of Python strings takes 90 bytes per name, and reading one copies its memory page into every
worker process, since Python counts references in the string itself.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Names:
    """Byte strings, one after another in a buffer with a zero byte between two."""

    buffer: np.ndarray  # (bytes,) uint8
    starts: np.ndarray  # (n + 1,) int64: name i is buffer[starts[i] : starts[i + 1] - 1]

    @classmethod
    def of(cls, names: Sequence[bytes]) -> "Names":
        """Return the names given, in their order."""
        starts = np.zeros(len(names) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, names), np.int64, len(names)) + 1, out=starts[1:])
        return cls(np.frombuffer(b"\0".join(names), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.buffer[self.starts[index] : self.starts[index + 1] - 1].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def subset(self, keep: np.ndarray) -> "Names":
        """Return only the names of `keep`, (n,) bool."""
        return Names.of([self[i] for i in np.flatnonzero(keep).tolist()])

    def digest(self) -> str:
        """Return the SHA-256 of the names in their order."""
        return hashlib.sha256(self.buffer.data).hexdigest()
