"""Write files atomically: a reader sees the old file or the new one, never a part."""

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

UNFINISHED = (".*.tmp", ".tmp??????")  # names of files at work: atomic_write's, safetensors'


REMEDY = {  # errno -> what to do
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "raise the largest size of a file (ulimit -f)",
    errno.EIO: "see whether that disk is sound",
}
PROBE_BYTES = 2**20


class WriteError(OSError):
    """A file could not be written: which one, why, and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def refuse_file(folder: Path) -> None:
    """Raise ValueError for a file in the place of a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder")


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Raises WriteError where the disk is full or fails; the file that was there stays.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with writing(path, temporary):
            write(temporary)
            _move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _move(temporary: Path, path: Path) -> None:
    """Put a file's content on the disk, then give it its name."""
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.chmod(0o644)
    temporary.replace(path)


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise WriteError, with the name of `path`, for what the disk refuses inside.

    torch and safetensors raise errors of their own: `temporary` is the file they wrote.
    """
    try:
        yield
    except Exception as error:
        number = _errno(error, temporary)
        if number is None:
            raise
        remedy = REMEDY.get(number, "give a place that can be written")
        raise WriteError(
            number,
            f"{path} cannot be written: {os.strerror(number)}. What was there is kept; {remedy}, "
            "then give the command again (a run goes on with --resume)",
        ) from error


def _errno(error: Exception, temporary: Path | None) -> int | None:
    """Return the number of the system's error behind an error; None where there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    named = re.search(r"\(os error (\d+)\)", text)  # safetensors
    if named:
        return int(named[1])
    by_torch = "inline_container" in text or "PytorchStreamWriter" in text
    if temporary is None or not (by_torch or isinstance(error, OSError)):  # Pillow's encoders
        return None
    return _probe(temporary) or (errno.EIO if by_torch else None)


def _probe(temporary: Path) -> int | None:
    """Return the number of the error that a file cannot be continued with; None if it can."""
    try:
        with temporary.open("ab") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written below `folder`; none may be at work there."""
    for pattern in UNFINISHED:
        for temporary in folder.rglob(pattern):
            temporary.unlink(missing_ok=True)


def write_safetensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, from any device, in the order of their names; equal content, equal bytes.

    Raises ValueError if the header does not fit the space reserved for it.
    """
    from safetensors.torch import save_file  # imports torch, which the folders of runs do not need

    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(plain, str(path), metadata=dict(metadata) if metadata else None)
    with path.open("r+b") as file:  # safetensors shuffles the metadata
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ValueError(f"{path}: the header takes {len(text)} bytes, not {length}")
        file.seek(8)
        file.write(text.ljust(length))
