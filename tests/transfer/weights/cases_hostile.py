"""Files that would run code, fill memory, or are broken: each writes itself to a path.

Code that runs leaves a file beside it, named `ran`.
"""

import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from tests.transfer.weights.cases_layouts import RESNET, random_net, without


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class Built:
    """Pickles as a global, then a state given to it."""

    def __reduce__(self):
        return Call, (print,), {"function": os.system}


def touch(folder: Path) -> Call:
    return Call(os.system, f"touch {folder / 'ran'}")


def zipped(make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda path: torch.save({"model": make(path.parent)}, path)


def legacy(make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda path: torch.save(
        {"model": make(path.parent)}, path, _use_new_zipfile_serialization=False
    )


def pickled(make: Callable[[Path], object], protocol: int = 4) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(pickle.dumps({"model": make(path.parent)}, protocol))


def assembled(code: bytes) -> Callable[[Path], None]:
    """A pickle written opcode by opcode; RAN stands for the file that would appear."""

    def write(path: Path) -> None:
        path.write_bytes(code.replace(b"RAN", str(path.parent / "ran").encode()))

    return write


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED):
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, data in entries.items():
                file.writestr(name, data)

    return write


def nested(path: Path) -> None:
    inner = io.BytesIO()
    torch.save({"model": touch(path.parent)}, inner)
    archive({"weights/model.pth": inner.getvalue(), "weights/data.pkl.pth": b"x"})(path)


def two_pickles(path: Path) -> None:
    torch.save({"model": {"conv1.weight": torch.ones(1)}}, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/code.pkl", pickle.dumps(touch(path.parent)))


def cut(write: Callable[[Path], None], keep: float) -> Callable[[Path], None]:
    def shorten(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return shorten


def good(path: Path) -> None:
    torch.save(without(random_net(*RESNET).state_dict(), "fc"), path)


def good_safetensors(path: Path) -> None:
    save_file({"a": torch.ones(100)}, path)


def header(text: bytes, length: int | None = None) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(
        struct.pack("<Q", len(text) if length is None else length) + text
    )


def changed(change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A good encoder in which something is wrong with the tensors."""

    def write(path: Path) -> None:
        state = dict(without(random_net(*RESNET).state_dict(), "fc"))
        change(state)
        torch.save(state, path)

    return write


def out_of_bounds(path: Path) -> None:
    good(path)
    with zipfile.ZipFile(path) as file:
        entries = {n: file.read(n) for n in file.namelist()}
    name = next(n for n in entries if n.endswith("data/0"))
    archive({**entries, name: entries[name][:8]})(path)


def encoder(**changes) -> Callable[[Path], None]:
    """An encoder file of ours with a header that asks for more than an architecture."""

    def write(path: Path) -> None:
        own = {"arch": "resnet18", "arch_args": {"layers": [1, 2, 1, 1]}, "method": "x"}
        identity = identity_of(**(own | changes))
        write_encoder(path, {"a": torch.ones(1)}, identity)

    return write


def bad_metadata(path: Path) -> None:
    encoder()(path)
    metadata = {"format": "mim-transfer-encoder/1", "arch": "{", "arch_args": "[1"}
    path.write_bytes(save({"a": torch.ones(1)}, metadata=metadata))


def markup(path: Path) -> None:
    """An encoder file whose method would be markup in a table."""
    encoder()(path)
    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata())
    metadata["method"] = json.dumps("<script>alert(1)</script>")
    save_file({"a": torch.ones(1)}, path, metadata=metadata)


def itself(path: Path) -> None:
    loop: dict = {}
    loop["model"] = loop
    torch.save(loop, path)


def deep(path: Path) -> None:
    value: object = torch.ones(1)
    for _ in range(300):
        value = [value]
    torch.save({"model": {"a": torch.ones(1)}, "deep": value}, path)


def laughs(path: Path) -> None:
    value: list = [1]
    for _ in range(40):
        value = [value] * 10
    path.write_bytes(pickle.dumps({"model": {}, "laughs": value}))


# code that would run: the message names what it tried to import
RUNNING: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip reduce": (zipped(touch), "system"),
    "legacy reduce": (legacy(touch), "system"),
    "pickle reduce": (pickled(touch), "system"),
    "pickle reduce, protocol 0": (pickled(touch, 0), "system"),
    "zip eval": (zipped(lambda _: Call(eval, "1 + 1")), "eval"),
    "pickle exec": (pickled(lambda _: Call(exec, "import os")), "exec"),
    "zip getattr": (zipped(lambda _: Call(getattr, "text", "upper")), "getattr"),
    "zip getattr of a harmless name": (zipped(lambda _: Call(getattr, "text", "min")), "getattr"),
    "pickle getattr": (pickled(lambda _: Call(getattr, dict, "clear")), "getattr"),
    "zip popen": (zipped(lambda f: Call(subprocess.Popen, ["touch", str(f / "ran")])), "Popen"),
    "zip import": (zipped(lambda _: Call(__import__, "antigravity")), "import"),
    "pickle import of a module": (assembled(b"\x80\x04\x8c\x04this\x8c\x01d\x93."), "this"),
    "pickle dotted name": (assembled(b"\x80\x04\x8c\x05numpy\x8c\x0eos.path.exists\x93."), "os"),
    "pickle inst": (assembled(b"(S'touch RAN'\nios\nsystem\n."), "system"),
    "pickle global": (assembled(b"\x80\x02cos\nsystem\nU\x04true\x85R."), "system"),
    "zip whole model": (zipped(lambda _: torch.nn.Linear(2, 2)), "Linear"),
    "pickle whole model": (pickled(lambda _: torch.nn.Linear(2, 2)), "Linear"),
    "zip state of an object": (zipped(lambda _: Built()), "Call"),
    "pickle partial": (pickled(lambda _: Call(__import__("functools").partial, print)), "partial"),
    "zip torch.load": (zipped(lambda _: Call(torch.load, "/dev/null")), "load"),
    "pickle numpy load": (pickled(lambda _: Call(np.load, "/dev/null")), "load"),
}

# broken, misleading, or made to fill memory
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "neither safetensors"),
    "a web page": (lambda p: p.write_text("<html>404 Not Found</html>"), "neither safetensors"),
    "truncated zip": (cut(good, 0.6), "zip|truncated"),
    "truncated legacy": (cut(legacy(lambda _: torch.ones(1000)), 0.5), "truncated|neither"),
    "truncated pickle": (cut(pickled(lambda _: np.ones(1000)), 0.5), "truncated|neither"),
    "truncated safetensors": (cut(good_safetensors, 0.8), "truncated"),
    "archive of archives": (nested, "archive"),
    "two pickles in one archive": (two_pickles, "archive"),
    "compressed archive": (
        archive({"a/data.pkl": b"\x80\x02}." + b" " * 9999}, zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "archive without a pickle": (archive({"a/b.txt": b"x"}), "archive"),
    "header of 10 GB": (header(b"{}", 10 * 2**30), "header says"),
    "header without end": (header(b'{"a":' * 2000), "header|read"),
    "header of no table": (header(b"[1, 2]"), "neither|table"),
    "offsets beyond the file": (
        header(
            json.dumps(
                {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
            ).encode()
        ),
        "read",
    ),
    "offsets over each other": (
        header(
            json.dumps(
                {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}
            ).encode()
            + b"\0" * 8,
            None,
        ),
        "read",
    ),
    "unknown dtype": (
        header(
            json.dumps({"a": {"dtype": "PY", "shape": [1], "data_offsets": [0, 4]}}).encode()
            + b"\0\0\0\0"
        ),
        "read",
    ),
    "storage shorter than its tensor": (out_of_bounds, "read|truncated"),
    "one number a terabyte of times": (
        changed(lambda s: s.update({"conv1.weight": torch.ones(1).expand(2**40)})),
        "fill memory",
    ),
    "array of objects": (pickled(lambda f: np.array([touch(f)], object)), "dtype 'O"),
    "array of text": (pickled(lambda _: np.array(["a"])), "dtype"),
    "a dict in itself": (itself, "state dict"),
    "nested 300 deep": (deep, "nested|read|recursion"),
    "ten to the fortieth entries": (laughs, "state dict"),
    "sparse tensor": (
        changed(lambda s: s.update({"conv1.weight": s["conv1.weight"].to_sparse()})),
        "sparse",
    ),
    "NaN": (
        changed(lambda s: s["layer1.0.bn1.bias"].fill_(float("nan"))),
        r"NaN.*layer1\.0\.bn1\.bias",
    ),
    "infinite": (changed(lambda s: s["conv1.weight"][0].fill_(float("inf"))), r"NaN.*conv1"),
    "whole numbers": (
        changed(lambda s: s.update({"conv1.weight": s["conv1.weight"].char()})),
        r"conv1\.weight.*int8",
    ),
    "complex numbers": (
        changed(lambda s: s.update({"conv1.weight": s["conv1.weight"] + 0j})),
        r"conv1.*complex",
    ),
    "eight-bit floats": (
        changed(lambda s: s.update({"conv1.weight": s["conv1.weight"].to(torch.float8_e4m3fn)})),
        r"conv1.*float8",
    ),
    "another shape": (changed(lambda s: s.update({"bn1.weight": torch.ones(3)})), r"bn1\.weight"),
    "header asks the network": (encoder(arch="hf-hub:someone/model"), "architecture"),
    "header asks for a file": (encoder(arch_args={"checkpoint_path": "x.pth"}), "checkpoint_path"),
    "header is no JSON": (bad_metadata, "lacks|identity"),
    "header with markup": (markup, "method must be a short name"),
}


def odd_paths(folder: Path) -> dict[str, tuple[Path, str]]:
    """Paths that are no weights files."""
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nowhere.pth")
    (folder / "directory.pth").mkdir()
    (folder / "to_directory").symlink_to(folder / "directory.pth")
    os.mkfifo(folder / "pipe.pth")
    return {
        "loop": (folder / "loop", "leads nowhere"),
        "dangling": (folder / "dangling", "leads nowhere"),
        "directory": (folder / "directory.pth", "not a regular file"),
        "link to a directory": (folder / "to_directory", "not a regular file"),
        "pipe": (folder / "pipe.pth", "not a regular file"),
        "device": (Path("/dev/zero"), "not a regular file"),
        "missing": (folder / "none.pth", "no weights file"),
    }
