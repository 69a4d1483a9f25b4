"""Write files atomically: a reader sees the old file or the new one, never a part."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

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
