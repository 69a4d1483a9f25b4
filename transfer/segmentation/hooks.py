"""What happens around a step: its random state, its images' names, the log, the states."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from pretrain.run.log import RunLog
from pretrain.run.seeds import seed_draws
from pretrain.run.stop import Stopped
from transfer.segmentation.state import BEST, save

logger = logging.getLogger(__name__)


@HOOKS.register_module()
class StepHook(Hook):
    """Dropout and stochastic depth follow from (seed, step, forward pass, process) alone.

    Notes as well which images are at work, how long training takes, and the last figures.
    """

    priority = "VERY_HIGH"

    def __init__(self, accumulation_steps: int) -> None:
        self.accumulation_steps = accumulation_steps

    def before_train(self, runner: Any) -> None:
        """Begin: MMEngine has built everything by now, and nothing is refused any more."""
        runner.when_built()
        self.since = time.monotonic()

    def before_train_iter(self, runner: Any, *, data_batch: Any, **_: Any) -> None:
        """Seed the forward pass; until now the run waited for its batch."""
        runner.data_seconds = time.monotonic() - self.since
        step, part = divmod(runner.iter, self.accumulation_steps)
        seed_draws(runner.seed, step, part, runner.rank)
        runner.batch_images = [sample.img_path for sample in data_batch["data_samples"]]

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Count the time of the forward pass, its loading included."""
        now = time.monotonic()
        runner.pass_seconds = now - self.since
        runner.train_seconds += runner.pass_seconds
        self.since = now

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Keep the figures of the end; the time of an evaluation is not training time."""
        if runner.iter >= runner.max_iters:
            runner.metrics = metrics
        self.since = time.monotonic()


@HOOKS.register_module()
class LogHook(Hook):
    """A line of the run's log every `steps` steps: the means over the steps since the last line."""

    priority = "LOW"  # before SaveHook: a saved step is in the log

    def __init__(
        self, steps: int, accumulation_steps: int, images: int, tensorboard: bool, figures: bool
    ) -> None:
        self.steps, self.accumulation_steps = steps, accumulation_steps
        self.images = images  # of a forward pass, of all processes
        self.tensorboard, self.figures = tensorboard, figures  # figures: those of evaluations too
        self.log: RunLog | None = None  # of the first process
        self.lengths: dict[str, int] = {}
        self.sums: dict[str, Tensor] = {}
        self.passes = 0  # that the sums are over

    def before_train(self, runner: Any) -> None:
        """Open the log where the state left it; a new run begins with its weights."""
        if is_main_process():
            self.log = RunLog(
                Path(runner.work_dir),
                steps=runner.max_iters // self.accumulation_steps,
                first=runner.iter // self.accumulation_steps,
                lengths=self.lengths,
                device=next(runner.model.parameters()).device,
                tensorboard=self.tensorboard,
            )
            if not runner.iter:
                logger.info("%s", runner.unwrapped_model.backbone.report or "weights: from scratch")

    def after_train_iter(self, runner: Any, *, outputs: dict[str, Tensor], **_: Any) -> None:
        """Add the values of a forward pass; write a line when it is time."""
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()
        self.passes += 1
        if self.log:
            self.log.count(self.images, runner.pass_seconds, runner.data_seconds)
        step, within = divmod(runner.iter + 1, self.accumulation_steps)
        last = runner.iter + 1 == runner.max_iters
        if within or (step % self.steps and not last):
            return
        means = {name: float(total) / self.passes for name, total in self.sums.items()}
        self.sums, self.passes = {}, 0
        if self.log:
            rates = runner.message_hub.log_scalars  # base_lr only where parameter groups differ
            lr = rates.get("train/base_lr", rates["train/lr"]).current()
            self.log.write(step, {**means, "lr": lr})

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the figures of an evaluation; the record holds those of the last one."""
        if self.log and self.figures and runner.iter < runner.max_iters:
            self.log.write_figures(runner.iter // self.accumulation_steps, metrics or {})

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the log on disk, and what is not yet in it into the state."""
        checkpoint["log"] = self.log.flush_to_disk() if self.log else {}
        checkpoint["sums"], checkpoint["passes"] = self.sums, self.passes

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        device = next(runner.model.parameters()).device
        self.lengths, self.passes = checkpoint["log"], checkpoint["passes"]
        self.sums = {name: value.to(device) for name, value in checkpoint["sums"].items()}

    def close(self) -> None:
        """Close the log, however the training ended."""
        if self.log:
            self.log.close()


@HOOKS.register_module()
class BestHook(Hook):
    """Keeps the best state of the evaluations during training, in WORK_DIR/best.pt.

    It has no part in the record, whose figures are those of the last step.
    """

    priority = "HIGH"  # before AverageHook takes the averaged weights out of the net again

    def __init__(self, accumulation_steps: int) -> None:
        self.accumulation_steps = accumulation_steps
        self.best = -1.0  # mIoU in percent

    def after_val_epoch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Keep the state if its mIoU is the highest so far."""
        if metrics["mIoU"] <= self.best:
            return
        self.best = metrics["mIoU"]
        if is_main_process():
            model = runner.unwrapped_model.state_dict()
            step = runner.iter // self.accumulation_steps
            values = {"step": step, "model": model, "average": None, "metrics": metrics}
            save(Path(runner.work_dir) / BEST, values)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Store the best figure."""
        checkpoint["best"] = self.best

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from there."""
        self.best = checkpoint["best"]


@HOOKS.register_module()
class SaveHook(Hook):
    """Saves the state every `steps` steps, at the end, and on a signal, which ends the run.

    A step is `accumulation_steps` forward passes: never saved half way. Where an evaluation is due
    as well, the state is saved after it; but before the last one, and before one that a signal
    ends. A run that goes on from there evaluates first.
    """

    priority = "VERY_LOW"

    def __init__(self, steps: int, accumulation_steps: int, evaluation_passes: int) -> None:
        self.passes, self.evaluation_passes = steps * accumulation_steps, evaluation_passes
        self.accumulation_steps = accumulation_steps
        self.evaluated = 0  # forward passes that had been done at the last evaluation

    def before_train(self, runner: Any) -> None:
        """Evaluate if that was left undone."""
        if self._is_evaluated(runner, runner.iter) and self.evaluated != runner.iter:
            runner.val_loop.run()

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Save when it is time; Stopped after a signal."""
        done = runner.iter + 1
        if done % self.accumulation_steps:
            return
        runner.updates += 1
        stop = self._any_process_asked(runner)
        due = done % self.passes == 0 and not self._is_evaluated(runner, done)
        if stop or due or done == runner.max_iters:
            runner.save_state(done)
        if stop:
            step = done // self.accumulation_steps
            logger.info("stopped by a signal after step %d; --resume goes on", step)
            raise Stopped(stop)

    def after_val_iter(self, runner: Any, **_: Any) -> None:
        """Save and stop after a signal; before the last evaluation the state was saved.

        Raises Stopped after that.
        """
        if runner.stop.signal:
            if runner.iter < runner.max_iters:
                runner.save_state(runner.iter)
            logger.info("stopped by a signal during an evaluation; --resume begins it again")
            raise Stopped(runner.stop.signal)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Remember that the state is evaluated, and save it when it is time."""
        self.evaluated = runner.iter
        if runner.iter % self.passes == 0 and runner.iter < runner.max_iters:
            runner.save_state(runner.iter)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Store which state was evaluated last."""
        checkpoint["evaluated"] = self.evaluated

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from there."""
        self.evaluated = checkpoint["evaluated"]

    def _is_evaluated(self, runner: Any, done: int) -> bool:
        """Return whether MMEngine's loop evaluates after `done` forward passes."""
        return done > 0 and (done % self.evaluation_passes == 0 or done == runner.max_iters)

    def _any_process_asked(self, runner: Any) -> int:
        """Return the signal that any process got; 0 for none."""
        if not is_distributed():
            return runner.stop.signal
        asked = torch.tensor(float(runner.stop.signal))
        all_reduce(asked, "max")
        return int(asked)
