"""What a run says: log files, TensorBoard curves, a progress bar or lines of text.

    log.jsonl      one JSON object per line: the step and its values
    log.txt        the same lines for people, among the messages of the run
    tensorboard/   the same values as curves

A training state keeps the lengths of both files. A resumed run cuts them back to these lengths, so
they end as those of an unbroken run, but for the values in TIMED and the times of day.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pretrain.files.write import writing
from pretrain.run.folder import LOG, TENSORBOARD, TEXT_LOG
from pretrain.run.provenance import peak_memory_mib

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10  # where the output is not a terminal
TIMED = ("images_per_second", "data_share", "peak_memory_mib")  # values that tell of the machine
LOGGERS = ("pretrain", "transfer")  # whose messages go to log.txt
ON_BAR = ("loss", "lr")  # values beside the progress bar


class RunLog:
    """The log of one process, the first, from step `first` of `steps` on.

    `lengths` are those of the files at the training state that the run resumes from, as
    `flush_to_disk` returned them. Raises ValueError if a file is shorter than that.
    """

    def __init__(
        self,
        out: Path,
        *,
        steps: int,
        first: int = 0,
        lengths: Mapping[str, int] | None = None,
        device: torch.device | None = None,
        text: bool = True,
        tensorboard: bool = True,
        loggers: Iterable[str] = LOGGERS,
    ) -> None:
        self._steps, self._first, self._device = steps, first, device or torch.device("cpu")
        lengths = lengths or {}
        for name in (LOG, TEXT_LOG) if text else (LOG,):
            _cut_back(out / name, lengths.get(name, 0))
        self._out = out
        self._lines = (out / LOG).open("a")
        self._text = _TextFile(out / TEXT_LOG) if text else None
        self._loggers = [logging.getLogger(name) for name in loggers] if self._text else []
        for source in self._loggers:
            source.addHandler(self._text)  # type: ignore[arg-type]
        self._board = _board(out / TENSORBOARD, first) if tensorboard else None
        self._images, self._seconds, self._data_seconds = 0, 0.0, 0.0  # since the last line
        self._began = self._printed = time.monotonic()
        self._bar = _Bar(first, steps) if Console().is_terminal else None

    def count(self, images: int, seconds: float, data_seconds: float = 0.0) -> None:
        """Add what was trained since the last count, and how much of it was waiting for data."""
        self._images += images
        self._seconds += seconds
        self._data_seconds += data_seconds

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line: `values` of the steps up to `step` (steps done), and the speed."""
        values = {**values, **self._timed()}
        self._images, self._seconds, self._data_seconds = 0, 0.0, 0.0
        self._write_values(step, values)
        self._show(step, values)

    def write_figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a line of figures of the state after `step`, as an evaluation gives them."""
        self._write_values(step, figures)
        logger.info("step %d of %d  %s", step, self._steps, _text(figures))

    def _write_values(self, step: int, values: Mapping[str, float]) -> None:
        with writing(self._out / LOG):
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            self._lines.flush()
        if self._board:
            with writing(self._out / TENSORBOARD):
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)

    def note(self, text: str) -> None:
        """Write a message to log.txt alone."""
        if self._text:
            self._text.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, text, (), None))

    def flush_to_disk(self) -> dict[str, int]:
        """Put everything on disk; return the files' lengths in bytes for the training state."""
        if self._board:
            with writing(self._out / TENSORBOARD):
                self._board.flush()
        lengths = {}
        for name, stream in self._streams().items():
            with writing(self._out / name):
                stream.flush()
                os.fsync(stream.fileno())
            lengths[name] = os.fstat(stream.fileno()).st_size
        return lengths

    def close(self) -> None:
        """Close the files and end the progress bar.

        What the disk does not take any more is after the last training state.
        """
        if self._bar:
            self._bar.stop()
        for source in self._loggers:
            source.removeHandler(self._text)  # type: ignore[arg-type]
        for stream in (self._lines, self._text, self._board):
            if stream:
                with suppress(OSError):
                    stream.close()

    def _timed(self) -> dict[str, float]:
        seconds = max(self._seconds, 1e-9)
        return {
            "images_per_second": round(self._images / seconds, 2),
            "data_share": round(self._data_seconds / seconds, 4),
            "peak_memory_mib": round(peak_memory_mib(self._device), 1),
        }

    def _streams(self) -> dict[str, Any]:
        streams: dict[str, Any] = {LOG: self._lines}
        return {**streams, TEXT_LOG: self._text.stream} if self._text else streams

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        left = (now - self._began) / max(1, step - self._first) * (self._steps - step)
        text = _line(step, self._steps, values, left)
        self.note(text)
        if self._bar:
            self._bar.show(step, values)
        elif now - self._printed > SECONDS_BETWEEN_LINES or step == self._steps:
            self._printed = now
            logger.info(text, extra={"in_log_already": True})


class LogFile(logging.FileHandler):
    """A file of messages, whose errors reach the run: logging itself prints them and goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Raise the error at hand: WriteError where the disk is full."""
        with writing(Path(self.baseFilename)):
            raise


class _TextFile(LogFile):
    """log.txt: every message with its time of day."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.addFilter(lambda record: not getattr(record, "in_log_already", False))


class _Bar(Progress):
    """Steps done, loss and speed, time left."""

    def __init__(self, first: int, steps: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[values]}"))
        super().__init__(*columns, TextColumn("left"), TimeRemainingColumn())
        self.start()
        self._task = self.add_task("", total=steps, completed=first, values="")

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Move the bar to `step`."""
        shown = {name: values[name] for name in ON_BAR if name in values}
        text = f"{_text(shown)}  {values['images_per_second']:.0f} images/s"
        self.update(self._task, completed=step, values=text)


def _board(folder: Path, first: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # takes seconds: not for who only imports

    return SummaryWriter(str(folder), purge_step=first + 1)


def _line(step: int, steps: int, values: Mapping[str, float], left_s: float) -> str:
    """Format "step 20 of 160  loss 5.12  lr 0.0015  [57 images/s, 2 % waiting for data, ...]"."""
    rate, share, memory = (values[name] for name in TIMED)
    own = {name: value for name, value in values.items() if name not in TIMED}
    return (
        f"step {step} of {steps}  {_text(own)}  [{rate:.0f} images/s, {100 * share:.0f} % waiting "
        f"for data, {memory:.0f} MiB, {timedelta(seconds=round(left_s))} left]"
    )


def _text(values: Mapping[str, float]) -> str:
    return "  ".join(
        f"{name} {value}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in values.items()
    )


def _cut_back(path: Path, length: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    found = path.stat().st_size
    if found < length:
        raise ValueError(
            f"{path} is shorter than at the training state ({found} of {length} bytes): it was "
            "changed; give another folder"
        )
    os.truncate(path, length)
