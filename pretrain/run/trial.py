"""What comes at the end of a run is tried before its first step, and leaves no trace."""

import random
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pretrain.run.stop import STORAGE, FailedError

IMAGES = 2  # to evaluate
LONGEST = 300  # characters of a framework's message


@contextmanager
def trial(model: nn.Module, advice: str) -> Iterator[Path]:
    """Yield a temporary folder for what the end of a run writes; the training will not notice.

    Raises ValueError, with `advice`, for what fails inside: it would have failed after the last
    step. A full disk stays an OSError.
    """
    with tempfile.TemporaryDirectory(prefix="end-of-run-") as folder, untouched(model):
        try:
            yield Path(folder)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in STORAGE:
                raise
            raise ValueError(
                f"the end of the run was tried on {IMAGES} validation images, and fails: "
                f"{_reason(error)}. {advice}; nothing was trained yet"
            ) from error


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back every random state, and the modes and buffers of `model`, after what is inside."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what libraries draw from
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for name, module in model.named_modules():
            module.training = modes[name]
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


def _reason(error: Exception) -> str:
    """Return the first line of an error; its kind where that is not ours, and where without one."""
    line = (str(error).strip().splitlines() or [""])[0][:LONGEST].rstrip(".")
    if not line:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
    ours = isinstance(error, ValueError | FailedError)
    return line if ours else f"{type(error).__name__}: {line}"
