"""Write files atomically: a reader sees the old file or the new one, never a part."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

UNFINISHED = (".*.tmp", ".tmp??????")  # names of files at work: atomic_write's, safetensors'


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written below `folder`; none may be at work there."""
    for pattern in UNFINISHED:
        for temporary in folder.rglob(pattern):
            temporary.unlink(missing_ok=True)
