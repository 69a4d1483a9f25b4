"""metrics.json and TensorBoard of a run that may be interrupted: as if it had not been.

Detectron2's writers take the median of the last values of a loss, and write what is newer than
their last line: so those values are part of the training state, and a resumed run first drops the
lines of the steps that it does again.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
)

from pretrain.files.write import atomic_write

METRICS_NAME = "metrics.json"
WINDOW = 20  # values of which the writers take the median


class Writers(hooks.PeriodicWriter):
    """Detectron2's hook; only full periods, and TensorBoard's curves on disk with each line."""

    def __init__(self, out: Path, *, done: int, steps: int, period: int) -> None:
        last = trim_metrics(out / METRICS_NAME, done)
        board = TensorboardXWriter(str(out), WINDOW, purge_step=done)
        lines = JSONWriter(str(out / METRICS_NAME), WINDOW)
        lines._last_write = board._last_write = last
        self.board = board._writer
        super().__init__([CommonMetricPrinter(steps, WINDOW), lines, board], period)

    def after_step(self) -> None:
        """Write at the end of a period."""
        super().after_step()
        self.board.flush()

    def after_train(self) -> None:
        """Close; a stopped run's unfinished period is written when it goes on."""
        for writer in self._writers:
            writer.close()


def trim_metrics(path: Path, steps: int) -> int:
    """Drop lines of steps from `steps` on, and a line cut short by a kill; the last step kept."""
    kept, last = [], -1
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            step = json.loads(line)["iteration"]
            if step < steps:
                kept.append(f"{line}\n")
                last = max(last, step)
    atomic_write(path, lambda p: p.write_text("".join(kept)))
    return last


def storage_state(storage: EventStorage, steps: int) -> dict[str, Any]:
    """Name -> the last (value, step) pairs before step `steps`, and whether to smooth them."""
    hints = storage.smoothing_hints()
    return {
        name: ([pair for pair in buffer.values()[-WINDOW:] if pair[1] < steps], hints[name])
        for name, buffer in storage.histories().items()
    }


def restore_storage(storage: EventStorage, state: dict[str, Any]) -> None:
    """Fill a new storage with what `storage_state` kept; its own step stays."""
    step = storage.iter
    for name, (pairs, smoothed) in state.items():
        for value, at in pairs:
            storage.iter = at
            storage.put_scalar(name, value, smoothing_hint=smoothed)
    storage.iter = step
