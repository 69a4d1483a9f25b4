"""Every file that MMEngine reads or writes passes here: only tensors come in, whole files go out.

onedl-mmengine 0.10.12 answers a file that torch refuses as unsafe by loading it with
`weights_only=False`, and so runs what is in it. `close_doors` puts our reader behind load_from,
init_cfg Pretrained and resume alike, and refuses to download.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils.dl_utils import hub

from pretrain.files.read import load_failure
from pretrain.files.write import atomic_write

LAST = "last.pth"


FORMAT = "mim-transfer-segmentation/1"


def close_doors() -> None:
    """Make MMEngine read local files as tensors only, and nothing else at all."""
    for scheme in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(scheme, _read if scheme == "" else _refuse, force=True)
    mmengine_checkpoint._safe_torch_load = _read
    hub.load_url = mmengine_checkpoint.load_url = _refuse


def _read(filename: Any, map_location: Any = "cpu", **_: Any) -> dict[str, Any]:
    if not isinstance(filename, str | Path):
        raise ValueError("weights are read from a file, not from memory or over a network")
    return read_tensors(filename, map_location)


def _refuse(filename: str, *_: Any, **__: Any) -> dict[str, Any]:
    raise ValueError(f"{filename} is not a local file: weights are never downloaded by a run")


def read_tensors(path: Path | str, map_location: Any = "cpu") -> dict[str, Any]:
    """A torch file of tensors and plain values; ValueError where it holds anything else."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and is not read ({load_failure(error)})"
        ) from None


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a torch file in one step; it is readable by `read_tensors`."""
    atomic_write(path, lambda temporary: torch.save(content, temporary))
