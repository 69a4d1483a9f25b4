"""What a run says while it runs: log.jsonl, TensorBoard, a progress bar or lines of text."""

import json
import logging
import math
import os
import time
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pretrain.run.folder import LOG, TENSORBOARD

log = logging.getLogger(__name__)


SECONDS_BETWEEN_LINES = 10  # where the output is no terminal


class Report:
    """One line of log.jsonl every `log_steps` steps: the mean over them.

    `log_bytes` is the log's length at the checkpoint a run resumes from: what was written after it
    is cut off, so the log becomes that of a run without the interruption.
    """

    def __init__(self, out: Path, first: int, steps: int, log_bytes: int) -> None:
        self._log = _open_log(out / LOG, log_bytes)
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(out / TENSORBOARD), purge_step=first + 1)
        self._first, self._steps = first, steps
        self._start = self._last = self._printed = time.monotonic()
        self._images = 0
        self._progress = _progress_bar() if Console().is_terminal else None
        if self._progress:
            self._progress.start()
            self._task = self._progress.add_task("", total=steps, completed=first, rest="")

    def passed(self, images: int) -> None:
        """Note that a step took `images` images."""
        self._images += images

    def line(self, step: int, values: dict[str, Any]) -> None:
        """Report `values` for the steps up to `step` (steps done)."""
        now = time.monotonic()
        rate = self._images / max(now - self._last, 1e-9)
        self._last, self._images = now, 0
        values = {"step": step, **values, "images_per_second": round(rate, 2)}
        self._log.write(json.dumps(values) + "\n")
        self._log.flush()
        for name, value in values.items():
            if name != "step":
                self._board.add_scalar(name, value, step)
        self._show(step, values, now)

    def _show(self, step: int, values: dict[str, Any], now: float) -> None:
        text = f"loss {values['loss']:.4f}  lr {values['lr']:.2e}  "
        text += f"{values['images_per_second']:.0f} images/s"
        if self._progress:
            self._progress.update(self._task, completed=step, rest=text)
        elif now - self._printed > SECONDS_BETWEEN_LINES or step == self._steps:
            self._printed = now
            left = (now - self._start) / (step - self._first) * (self._steps - step)
            log.info("step %d of %d  %s  %s left", step, self._steps, text, duration(left))

    def sync(self) -> int:
        """Put the log on disk; its length in bytes."""
        self._board.flush()
        self._log.flush()
        os.fsync(self._log.fileno())
        return self._log.tell()

    def close(self) -> None:
        """End the bar and close the files."""
        if self._progress:
            self._progress.stop()
        self._log.close()
        self._board.close()


def _progress_bar() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rest]}"))
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn())


def _open_log(path: Path, length: int) -> IO[str]:
    path.touch()
    if path.stat().st_size < length:
        raise ValueError(
            f"{path} is shorter than it was at the checkpoint ({path.stat().st_size} of {length} "
            "bytes): it was changed; give another --out"
        )
    os.truncate(path, length)
    return path.open("a")


def duration(seconds: float) -> str:
    """1:02:03."""
    total = math.ceil(seconds)
    return f"{total // 3600}:{total // 60 % 60:02}:{total % 60:02}"
