"""Where the images lie, kept on disk between runs: one file, mapped into memory, not read.

The files lie in the user's cache folder, or in $MIM_TRANSFER_CACHE; those of a thousand folders or
shards of 1.28 million images take 50 MB. An index is used again while every folder and shard has
the time of change and the size that it had then. A file rewritten under its old name need not
change its folder: the index holds names, no contents.
"""

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path
from safetensors.numpy import save_file

from pretrain.data.names import Names
from pretrain.files.find import THREADS
from pretrain.files.write import atomic_write

logger = logging.getLogger(__name__)

FORMAT = "1"
FOLDER_VARIABLE = "MIM_TRANSFER_CACHE"
DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64}
SETTLED_NS = 2_000_000_000  # file systems keep times in steps of up to 2 s

Columns = dict[str, np.ndarray]


def index_file(root: Path) -> Path:
    """Return where the index of the images at `root` is kept."""
    given = os.environ.get(FOLDER_VARIABLE)
    folder = Path(given) if given else user_cache_path("mim-transfer")
    return folder / "images" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.idx"


def write_index(path: Path, columns: Columns) -> bool:
    """Write the index to `path`; return False, with a warning, if that is not possible."""
    facts = {"format": FORMAT}
    arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    try:
        atomic_write(path, lambda p: save_file(arrays, str(p), facts))
    except OSError as error:
        logger.warning(
            "the index of the images cannot be kept at %s (%s), so every start makes it again: "
            "name another folder in %s",
            path,
            error.strerror,
            FOLDER_VARIABLE,
        )
        return False
    return True


def read_index(path: Path) -> Columns | None:
    """Map the index at `path` into memory; None if there is none, or another version's."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start = file.tell()
        if header.pop("__metadata__")["format"] != FORMAT:
            return None
        return {name: _column(path, start, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, OverflowError, MemoryError):
        return None


def _column(path: Path, start: int, entry: dict) -> np.ndarray:
    begin, _ = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", start + begin, shape))


def changes(root: Path, names: Sequence[bytes]) -> np.ndarray:
    """Return time of change (ns) and size of folders or shards below `root`, (n, 2) int64.

    The size of a folder is given as 0; what is gone has -1 for both.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(partial(_change, os.fsencode(root)), names))
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _change(root: bytes, name: bytes) -> tuple[int, int]:
    path = os.path.join(root, name) if name else root  # noqa: PTH118 - bytes
    try:
        facts = os.stat(path)  # noqa: PTH116 - bytes
    except OSError:
        return -1, -1
    return facts.st_mtime_ns, 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size


def unchanged(root: Path, columns: Columns) -> bool:
    """Return whether the folders and shards are as they were when the index was made."""
    names = Names(columns["watched"], columns["watched_starts"])
    return np.array_equal(changes(root, list(names)), columns["changes"])


def recent(watched: np.ndarray) -> bool:
    """Return whether any change is so recent that a later one could have the same timestamp."""
    return bool(watched[:, 0].max() > time.time_ns() - SETTLED_NS)
