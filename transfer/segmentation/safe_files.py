"""Every file that MMEngine reads passes here: only tensors come in.

onedl-mmengine 0.10.12 answers a file that torch refuses as unsafe by loading it with
`weights_only=False`, and so runs what is in it. `read_tensors_only` puts our reader behind
load_from, init_cfg Pretrained and resume alike, and refuses to download.
"""

from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils.dl_utils import hub

from pretrain.files.read import safe_read


def read_tensors_only() -> None:
    """Make MMEngine read local files as tensors only, and nothing else at all."""
    for scheme in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(scheme, _read if scheme == "" else _refuse, force=True)
    mmengine_checkpoint._safe_torch_load = _read
    hub.load_url = mmengine_checkpoint.load_url = _refuse


def _read(filename: Any, *_: Any, **__: Any) -> Any:
    if not isinstance(filename, str | Path):
        raise ValueError("weights are read from a file, not from memory or over a network")
    return safe_read(filename)


def _refuse(filename: str, *_: Any, **__: Any) -> dict[str, Any]:
    raise ValueError(f"{filename} is not a local file: weights are never downloaded by a run")
