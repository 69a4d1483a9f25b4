"""Read weights files without executing code: tensors and plain containers only.

Three formats, told apart by their first bytes and never by trying one after the other: safetensors;
a torch archive, through torch.load(weights_only=True); a plain pickle of numpy arrays (Detectron2's
.pkl), through an unpickler that admits only arrays. What any of them refuses stays refused.
"""

import hashlib
import json
import pickle
import re
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pretrain.files.arrays import TORCH_STAND_INS, ModuleShell, load_arrays, plain_values

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
MOST_SHARED = 8  # values in all tensors by the file's bytes: tied weights are stored once
_LEGACY_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # torch.save before the zip format


class WeightsError(ValueError):
    """A weights file that cannot be used as asked: which file, which tensor, what to do.

    `reason` is what is wrong with a file that cannot be read, without its name and the remedy.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def sha256_of(path: Path) -> str:
    """Return the hex digest of the file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_format(path: Path) -> str:
    """Return "safetensors", "torch" or "arrays", by the first bytes.

    Raises FileNotFoundError if there is no file, WeightsError if it is not a regular file or its
    format is unknown.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise FileNotFoundError(f"no weights file at {path}") from None
        raise WeightsError(f"{path}: the link leads nowhere ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        raise WeightsError(f"{path}: not a regular file; give the path of the weights file itself")
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"PK\x03\x04", _LEGACY_TORCH[:12])):
        return "torch"
    if start[:1] in (b"\x80", b"(", b"}", b"]", b"c") and _last_byte(path) == b".":
        return "arrays"  # of any pickle protocol
    if start[8:9] == b"{":
        return "safetensors"
    reason = (
        "neither safetensors, nor a torch archive, nor a pickle of arrays (it begins with "
        f"{start[:8]!r})"
    )
    raise WeightsError(
        f"{path}: {reason}; it may be an interrupted or failed download: get it again", reason
    )


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


def safe_read(path: str | Path) -> Any:
    """Return what the file holds: tensors in plain containers; of safetensors, a dict of tensors.

    Raises FileNotFoundError, or WeightsError where the file is broken, or would run code: then
    the message names what it tried to import.
    """
    path = Path(path)
    readers = {"safetensors": _read_safetensors, "torch": _read_torch, "arrays": _read_arrays}
    return readers[file_format(path)](path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the header metadata of a safetensors file; {} for the other formats."""
    path = Path(path)
    if file_format(path) != "safetensors":
        return {}
    _require_whole_header(path)
    try:
        with safe_open(str(path), framework="pt") as handle:
            return dict(handle.metadata() or {})
    except SafetensorError as error:
        raise _broken(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    _require_whole_header(path)
    try:
        with safe_open(str(path), framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise _broken(path, error) from error


def _require_whole_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise WeightsError(
                f"{path}: the header says it is {length} bytes long, the file has {size}; it is "
                "truncated or was not written by safetensors: get it again"
            )
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise _broken(path, error) from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the header is not a table of tensors; get the file again")


def read_module_tensors(path: str | Path, packages: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return the tensors of a whole pickled module, by their names in its state dict.

    `packages` are the prefixes of the classes that may occur ("torch.nn.modules."); of these only
    the attributes are read. Raises as `safe_read` does.
    """
    path = Path(path)
    if file_format(path) != "torch" or not zipfile.is_zipfile(path):
        raise _broken(path, "it is not a zip archive as torch.save writes it since version 1.6")
    _require_plain_archive(path)
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # a broken file ends in errors of many kinds
        raise _broken(path, error) from error
    classes = [n for n in named if n.startswith(packages) and n.rpartition(".")[2][:1].isupper()]
    module = _read_torch(path, [(ModuleShell, name) for name in classes])
    tensors = module.tensors() if isinstance(module, ModuleShell) else {}
    _require_no_larger_than_file(path, tensors)
    return tensors


def _read_torch(path: Path, more_stand_ins: Sequence[Any] = ()) -> Any:
    _require_plain_archive(path)
    stand_ins = [*TORCH_STAND_INS, *more_stand_ins]
    try:
        # an open file: given a path, torch chooses a format by its ending
        with path.open("rb") as file, torch.serialization.safe_globals(stand_ins):
            content = torch.load(file, map_location="cpu", weights_only=True)
        content = plain_values(content)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except Exception as error:  # a broken file ends in errors of many kinds
        raise _broken(path, load_failure(error)) from None
    _require_no_larger_than_file(path, content)
    return content


def _require_no_larger_than_file(path: Path, content: Any) -> None:
    """Refuse tensors with more values than the file has bytes: views that would fill memory."""
    size, waiting, values = path.stat().st_size, [("", content)], 0
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, item) for item in value]
        elif isinstance(value, torch.Tensor):
            values += value.numel()
            if value.numel() > size or values > MOST_SHARED * size:
                raise WeightsError(
                    f"{path}: the tensors up to {name} claim {values} values in a file of {size} "
                    "bytes; the file is damaged or made to fill memory"
                )


def _require_plain_archive(path: Path) -> None:
    """Refuse any zip unlike torch.save's: one data.pkl, nothing compressed, entries complete."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise _broken(path, "the zip archive ends too early")
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [e.filename for e in entries if e.filename.endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].rpartition("/")[2] != "data.pkl":
            raise WeightsError(
                f"{path}: a zip archive with {pickles or 'no'} pickles, not one data.pkl as "
                "torch.save writes it (a TorchScript file or an archive of archives?); "
                "unpack it, or save the state dict with torch.save"
            )
        packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise WeightsError(
                f"{path}: {packed[0]} is compressed, which torch.save never does; unpack the "
                "archive and give the weights file inside"
            )
        held, size = sum(e.file_size for e in entries), path.stat().st_size
        if held > size:
            raise WeightsError(
                f"{path}: its entries hold {held} bytes, the file has {size}; it is damaged or "
                "made to fill memory"
            )


def _read_arrays(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return load_arrays(file)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except Exception as error:  # a broken pickle ends in errors of many kinds
        raise _broken(path, error) from error


def _broken(path: Path, reason: object) -> WeightsError:
    text = str(reason).strip().splitlines() or [type(reason).__name__]
    what = text[0][:300]
    return WeightsError(
        f"{path}: the file cannot be read ({what}); it is truncated or damaged, get it again", what
    )


def _refused(path: Path, error: Exception) -> WeightsError:
    reason = str(error)
    named = re.search(r"GLOBAL ([\w.]+)|global(?:s)?:? ([\w.]+\.[\w.]+)|import ([\w.]+)", reason)
    what = next((name for name in named.groups() if name), None) if named else None
    tried = f"it tried to import {what}" if what else load_failure(error)
    return WeightsError(
        f"{path}: refused, because reading it would run code or build objects ({tried}). Only "
        "tensors and plain containers are read: save the state dict alone, where you trust the "
        "file's author",
        f"it would run code or build objects: {tried}",
    )


def load_failure(error: Exception) -> str:
    """Say in one line why torch.load failed, without its advice to load the file unsafely."""
    text = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if named:
        return f"it would import {named[1]}"
    if "weights_only" in text:
        detail = text.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        found = f" ({detail[:100]})" if detail and "weights_only" not in detail else ""
        return f"it holds more than tensors and plain values{found}, or is damaged"
    kind, line = type(error).__name__, text.strip().partition("\n")[0][:300]
    return f"{kind}: {line}" if line else kind
