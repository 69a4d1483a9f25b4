"""DALL-E's released files -> a tokenizer file, without running what a pickle asks for.

encoder.pkl and decoder.pkl are whole pickled modules. The reader below admits the few functions
that rebuild tensors, plain containers, and the network's classes as inert shells that only keep
their attributes; anything else is refused before it runs.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.config.tokenizer import VAESizes
from pretrain.tokenizer.vae import DiscreteVAE, load_tensors

STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
}


SHELLS = ("dall_e.", "torch.nn.modules.", "torch.nn.parameter")  # modules whose classes are shells


class Shell:
    """An object of the pickled network: its attributes, none of its code."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.state = state


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
            *_: Any) -> Tensor:  # fmt: skip
    """A copy of a piece of a storage, which lies here as a flat tensor; IndexError outside it."""
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if (
        offset < 0
        or min(stride, default=0) < 0
        or last >= len(storage)
        or math.prod(size) > len(storage)
    ):
        raise IndexError("a tensor reaches past its storage")
    return storage.as_strided(size, stride, offset).clone()


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _device(*_: Any) -> None:
    return None


ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "device"): _device,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class TensorUnpickler(pickle.Unpickler):
    """Admits ADMITTED, storages and shells; UnpicklingError names anything else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        if module == "torch" and name in STORAGES:
            return name
        if "." not in name and f"{module}.".startswith(SHELLS) and name[:1].isupper():
            return type(name, (Shell,), {})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, key: Any) -> Tensor:
        """A storage of the archive, as a flat tensor."""
        kind, name, number = key[0], key[1], key[2]
        if kind != "storage" or name not in STORAGES or not str(number).isdecimal():
            raise pickle.UnpicklingError(f"it asks for an unknown storage {name!r}")
        data = bytearray(self.archive.read(f"{self.root}/data/{number}"))
        return torch.frombuffer(data, dtype=STORAGES[name])


def read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a module saved by `torch.save`, by their path in it; ValueError if refused."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(name) as file:
                network = TensorUnpickler(file, archive, name.removesuffix("/data.pkl")).load()
        return _walk(network)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is no zip archive as torch.save writes since 1.6; if it is older, save it "
            "again with a newer torch on a machine you can spare"
        ) from error
    except Exception as error:  # a damaged or hostile pickle may raise anything
        raise ValueError(f"{path} was refused, nothing of it was run: {error}") from error


def convert(encoder: Path, decoder: Path | None = None) -> DiscreteVAE:
    """The tokenizer of the released encoder, and decoder if given; sizes from their tensors."""
    tensors = {f"encoder.{n}": t for n, t in read_pickled_tensors(encoder).items()}
    if decoder is not None:
        tensors |= {f"decoder.{n}": t for n, t in read_pickled_tensors(decoder).items()}
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    try:
        sizes = VAESizes(
            vocab_size=tensors["encoder.blocks.output.conv.w"].shape[0],
            n_hid=tensors["encoder.blocks.input.w"].shape[0],
            n_blk_per_group=_count(tensors, "encoder.blocks.group_1.block_"),
            group_count=_count(tensors, "encoder.blocks.group_"),
            n_init=tensors["decoder.blocks.input.w"].shape[0] if decoder else 128,
        )
    except KeyError as error:
        raise ValueError(f"{encoder} is no DALL-E encoder: it has no tensor {error}") from error
    vae = DiscreteVAE(sizes, with_decoder=decoder is not None)
    return load_tensors(vae, tensors, str(encoder))


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    return len({n[len(prefix) :].split(".")[0] for n in tensors if n.startswith(prefix)})


def _walk(network: Any, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and buffers of a shell and of the shells below it, under PyTorch's names."""
    state = getattr(network, "state", {})
    found: dict[str, Tensor] = {}
    for part in ("_parameters", "_buffers"):
        for name, value in state.get(part, {}).items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
    for name, child in state.get("_modules", {}).items():
        found |= _walk(child, f"{prefix}{name}.")
    return found
