"""What happens around a step: its random state, its images' names, checkpoints, SIGTERM."""

import signal
import threading
import time
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StepHook(Hook):
    """Dropout and stochastic depth of a step follow from (seed, step, process) alone.

    Notes as well which images are at work, how long training takes, and the last figures.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:  # noqa: ARG002
        """Start the clock."""
        self.since = time.monotonic()

    def before_train_iter(self, runner: Any, *, data_batch: Any, **_: Any) -> None:
        """Seed the step."""
        words = np.random.SeedSequence([runner.seed, runner.iter, runner.rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        runner.batch_images = [sample.img_path for sample in data_batch["data_samples"]]

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Count the time of the step, its loading included."""
        now = time.monotonic()
        runner.train_seconds += now - self.since
        self.since = now

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Keep the figures of the end; evaluation is no training time."""
        if runner.iter >= runner.max_iters:
            runner.metrics = metrics
        self.since = time.monotonic()


@HOOKS.register_module()
class SaveHook(Hook):
    """Saves the state every `interval` steps, at the end, and on SIGTERM, which ends the run.

    A step is `accumulation` forward passes: never saved half way.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int, accumulation: int = 1) -> None:
        self.interval, self.accumulation = interval, accumulation
        self.asked_to_stop = False

    def before_train(self, runner: Any) -> None:  # noqa: ARG002
        """Listen for SIGTERM (only a main thread can)."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._stop)

    def after_train(self, runner: Any) -> None:  # noqa: ARG002
        """From here on SIGTERM ends the process at once."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Save when it is time."""
        step, within = divmod(runner.iter + 1, self.accumulation)
        if within:
            return
        runner.updates += 1
        stop = self._any_process_asked()
        if stop or step % self.interval == 0 or runner.iter + 1 == runner.max_iters:
            runner.save_state()
        if stop and runner.iter + 1 < runner.max_iters:
            runner.stopped = True
            runner.train_loop.stop_training = True

    def _stop(self, *_: Any) -> None:
        self.asked_to_stop = True

    def _any_process_asked(self) -> bool:
        if not is_distributed():
            return self.asked_to_stop
        asked = torch.tensor(float(self.asked_to_stop))
        all_reduce(asked, "max")
        return bool(asked)
