"""What happens around a step: its random state, its images' names, checkpoints, evaluations."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from transfer.segmentation.run_folder import BEST
from transfer.segmentation.safe_files import FORMAT, write_tensors


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
        """Keep the figures of the end; the time of an evaluation is not training time."""
        if runner.iter >= runner.max_iters:
            runner.metrics = metrics
        self.since = time.monotonic()


@HOOKS.register_module()
class BestHook(Hook):
    """Keeps the best state of the evaluations during training, in WORK_DIR/best.pth.

    It has no part in the record, whose figures are those of the last step.
    """

    priority = "HIGH"  # before AverageHook takes the averaged weights out of the net again

    def __init__(self) -> None:
        self.best = -1.0  # mIoU in percent

    def after_val_epoch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Keep the state if its mIoU is the highest so far."""
        if metrics["mIoU"] <= self.best:
            return
        self.best = metrics["mIoU"]
        if is_main_process():
            content = {
                "format": FORMAT,
                "state_dict": runner.core.state_dict(),
                "meta": {"iter": runner.iter, "metrics": metrics, "about": runner.about_text},
            }
            write_tensors(Path(runner.work_dir) / BEST, content)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Store the best figure."""
        checkpoint["best"] = self.best

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from there."""
        self.best = checkpoint["best"]


@HOOKS.register_module()
class SaveHook(Hook):
    """Saves the state every `steps` steps, before evaluations, and on SIGTERM, which ends the run.

    A step is `accumulation_steps` forward passes: never saved half way. A run that goes on from a
    state saved before an evaluation evaluates first.
    """

    priority = "VERY_LOW"

    def __init__(self, steps: int, accumulation_steps: int, evaluation_passes: int) -> None:
        self.passes, self.evaluation_passes = steps * accumulation_steps, evaluation_passes
        self.accumulation_steps = accumulation_steps
        self.evaluated = 0  # forward passes that had been done at the last evaluation
        self.asked_to_stop = False

    def before_train(self, runner: Any) -> None:
        """Listen for SIGTERM (only a main thread can), and evaluate if that was left undone."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._stop)
        if self._is_evaluated(runner, runner.iter) and self.evaluated != runner.iter:
            runner.val_loop.run()

    def after_train(self, runner: Any) -> None:  # noqa: ARG002
        """From here on SIGTERM ends the process at once."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Save when it is time."""
        done = runner.iter + 1
        if done % self.accumulation_steps:
            return
        runner.updates += 1
        stop = self._any_process_asked()
        if stop or done % self.passes == 0 or self._is_evaluated(runner, done):
            runner.save_state()
        if stop and done < runner.max_iters:
            runner.stopped = True
            runner.train_loop.stop_training = True

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Remember that the state is evaluated."""
        self.evaluated = runner.iter

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Store which state was evaluated last."""
        checkpoint["evaluated"] = self.evaluated

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from there."""
        self.evaluated = checkpoint["evaluated"]

    def _is_evaluated(self, runner: Any, done: int) -> bool:
        """Whether MMEngine's loop evaluates after `done` forward passes."""
        return done > 0 and (done % self.evaluation_passes == 0 or done == runner.max_iters)

    def _stop(self, *_: Any) -> None:
        self.asked_to_stop = True

    def _any_process_asked(self) -> bool:
        if not is_distributed():
            return self.asked_to_stop
        asked = torch.tensor(float(self.asked_to_stop))
        all_reduce(asked, "max")
        return bool(asked)
