"""The training loop of everything that is trained here, on Lightning Fabric.

    step -> accumulate -> clip -> update -> average -> [read values -> log -> save -> stop]

A trainer derives from Trainee: its model, its batches, its losses. Everything random is a function
of (seed, step), so a resumed run goes on bit for bit on the CPU. The host waits for the device only
where a line of the log, a training state or an interim result is due: there the losses of the steps
since the last reading are checked, before anything is written.
"""

import logging
import math
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from pretrain.files.encoder_file import first_not_finite
from pretrain.files.training_state import keep_former, read_state, write_state
from pretrain.run.clock import Clock
from pretrain.run.folder import STATE
from pretrain.run.from_first import from_first
from pretrain.run.log import RunLog
from pretrain.run.seeds import seed_draws
from pretrain.run.stop import NotFiniteError, Stopped, StopRequest, stop_on_signals
from pretrain.run.trainee import LoopSettings, Trainee
from pretrain.run.update import fuse_on_gpu, total_norm

logger = logging.getLogger(__name__)

SMALLEST_LOSS_SCALE = 1.0  # of fp16; below it gradients are not finite whatever the scale
NORM = "gradient_norm"
NAMED_IMAGES = 20  # in a message


class Loop:
    """One process of a run in the folder `out`; `resume` goes on from the state in it."""

    def __init__(
        self, fabric: Fabric, trainee: Trainee, settings: LoopSettings, out: Path, resume: bool
    ) -> None:
        self.fabric, self.trainee, self.settings, self.out = fabric, trainee, settings, out
        model: Any = torch.compile(trainee.model) if settings.compile else trainee.model
        self.model, self.optimizer = fabric.setup(model, trainee.optimizer)
        fuse_on_gpu(trainee.optimizer)
        self.precision = fabric.strategy.precision
        self.scaler = getattr(self.precision, "scaler", None)  # of the loss, with fp16
        self.parameters = [p for p in trainee.model.parameters() if p.requires_grad]
        self.norm_groups = {f"{NORM}_{n}": group for n, group in trainee.norm_groups().items()}
        self.clock = Clock()
        decay = settings.ema_decay
        self.average = None if decay is None else ModelEmaV3(trainee.model, decay)
        self.done = self.saved = 0  # steps
        self.seconds = 0.0  # of training, over all parts of a resumed run
        self.names: tuple[str, ...] = ()  # of the values of a step
        self.unread: list[Tensor] = []  # values of steps, on the device
        self.values: dict[str, list[float]] = {}  # of the steps since the last line of the log
        self.late_signal = 0  # one that came in the last step
        self.log: RunLog | None = None
        self.log_lengths: dict[str, int] = {}
        if resume and (out / STATE).is_file():
            self.restore()

    @property
    def trained(self) -> nn.Module:
        """Return the model to evaluate and to save: the average of weights where one is kept."""
        return self.trainee.model if self.average is None else self.average.module

    def run(self) -> None:
        """Train to the last step.

        Raises NotFiniteError at a step that cannot go on, and Stopped after a signal, once the
        training state is saved.
        """
        first, settings = self.done, self.settings
        if first:  # log.txt holds the announcement already
            self.trainee.announce()
            logger.info("resumed after step %d", first)
        if self.fabric.is_global_zero:
            self.log = RunLog(
                self.out,
                steps=settings.steps,
                first=first,
                lengths=self.log_lengths,
                device=self.fabric.device,
            )
        if not first:
            self.trainee.announce()
        try:
            with stop_on_signals() as stop:
                self.train_from(first, stop)
                self.late_signal = self.agree_on(stop.signal)
        except NotFiniteError as error:
            if self.log:
                self.log.note(str(error))
            raise
        finally:
            if self.log:
                self.log.close()

    def train_from(self, first: int, stop: StopRequest) -> None:
        """Train from step `first` on.

        Raises Stopped after a signal, once the state is saved.
        """
        self.model.train()
        batches = self.trainee.batches(first)
        self.clock.restart()
        for step in range(first, self.settings.steps):
            self.train_step(step, batches)
            self.done = step + 1
            if self.log_and_save_if_due(stop.signal > 0):
                logger.info("stopped by a signal after step %d; --resume goes on", self.done)
                raise Stopped(stop.signal or signal.SIGTERM)

    def train_step(self, step: int, batches: Iterator[Any]) -> None:
        """Run one optimizer step: forward and backward passes, clipping, update, average."""
        passes = self.settings.accumulation_steps
        self.trainee.set_step(step)
        sums: Tensor | None = None
        for part in range(passes):
            with self.clock.waiting():
                batch = next(batches)
            # counted over all processes: two that take a pass each draw what one draws for both
            place = part * self.fabric.world_size + self.fabric.global_rank
            seed_draws(self.settings.seed, step, place, 0)
            with self.fabric.no_backward_sync(self.model, enabled=part + 1 < passes):
                losses = self.trainee.losses(self.model, batch, step)
                self.fabric.backward(losses["loss"] / passes)
            row = torch.stack([value.detach().float() for value in losses.values()]) / passes
            sums = row if sums is None else sums + row
        assert sums is not None
        self.precision.unscale_gradients(self.trainee.optimizer)
        norms = self.clip_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.trainee.model)
        assert not self.unread or self.names == (*losses, *norms)
        self.names = (*losses, *norms)
        self.unread.append(torch.cat((sums, torch.stack(list(norms.values())))))

    def clip_gradients(self) -> dict[str, Tensor]:
        """Clip all gradients together; return their norm before, and that of each group."""
        total = total_norm(self.parameters)
        groups = {name: total_norm(group) for name, group in self.norm_groups.items()}
        if self.settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip_norm, total)
        return {NORM: total, **groups}

    def log_and_save_if_due(self, asked: bool) -> bool:
        """Write what is due after the steps done; return whether to stop.

        Only here does the host wait for the device, and only here do processes agree to stop:
        one alone does so at any step.
        """
        settings, done = self.settings, self.done
        last = done == settings.steps
        log_due = last or done % settings.log_steps == 0
        save_due = last or done % settings.checkpoint_steps == 0
        interim_due = settings.interim_steps and done % settings.interim_steps == 0 and not last
        if not (log_due or save_due or interim_due or (asked and self.fabric.world_size == 1)):
            return False
        stop = self.read_values(asked) and not last
        if interim_due or save_due or stop:
            self.require_finite_weights()
        if interim_due:
            self.trainee.interim(done, self.trained)
            self.model.train()
        if log_due:
            self.write_line()
        if save_due or stop:
            self.save()
        self.clock.restart()
        return stop

    def read_values(self, asked: bool) -> bool:
        """Copy the unread values to the host, averaged over the processes; return whether to stop.

        All processes stop if one of them is asked to. Raises NotFiniteError for a loss that is not
        finite.
        """
        steps, width = len(self.unread), len(self.names)
        numbers = torch.cat([*self.unread, self.unread[0].new_tensor([float(asked)])])
        if self.fabric.world_size > 1:
            numbers = cast("Tensor", self.fabric.all_reduce(numbers, reduce_op="mean"))
        *values, stop = numbers.tolist()
        self.unread.clear()
        self.seconds += self.count_speed(steps)
        for i in range(steps):
            row = dict(zip(self.names, values[i * width : (i + 1) * width], strict=True))
            self.require_finite(self.done - steps + i, row)
            for name, value in row.items():
                self.values.setdefault(name, []).append(value)
        return stop > 0

    def agree_on(self, number: int) -> int:
        """Return the signal that this process got, SIGTERM if another one did, 0 for none."""
        if self.fabric.world_size > 1:
            got = torch.tensor([float(number > 0)], device=self.fabric.device)
            if cast("Tensor", self.fabric.all_reduce(got, reduce_op="sum")).item() > 0:
                return number or signal.SIGTERM
        return number

    def write_line(self) -> None:
        """Write a line of the log: means over the steps since the last one."""
        values = dict(self.trainee.log_values(self.done))
        for name, numbers in self.values.items():
            finite = [number for number in numbers if math.isfinite(number)]
            values[name] = sum(finite) / max(1, len(finite))
        if self.scaler is not None:
            values["loss_scale"] = self.scaler.get_scale()
            values["skipped_steps"] = sum(not math.isfinite(n) for n in self.values[NORM])
        self.values = {}
        if self.log:
            self.log.write(self.done, values)

    def require_finite(self, step: int, row: Mapping[str, float]) -> None:
        """Raise NotFiniteError for a value of `step` that is NaN or infinite.

        With a scaled loss a gradient may be: its update was skipped and the scale lowered.
        """
        bad = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
        if self.scaler is not None:
            bad = [text for text in bad if not text.startswith(NORM)]
            if self.scaler.get_scale() < SMALLEST_LOSS_SCALE:
                bad.append(f"the scale of the loss fell to {self.scaler.get_scale():g}")
        if bad:
            raise NotFiniteError(self.complaint(step, ", ".join(bad)))

    def require_finite_weights(self) -> None:
        """Raise NotFiniteError if the last update made a weight NaN or infinite.

        The loss of a step is computed before its update: no loss shows the last one.
        """
        name = first_not_finite(self.trainee.model.state_dict())
        if name is not None:
            what = f"its update made values of {name} NaN or infinite"
            raise NotFiniteError(self.complaint(self.done - 1, what))

    def complaint(self, step: int, what: str) -> str:
        """Return what to say about a step that the run cannot go on from."""
        names = self.trainee.images_of(step)
        shown = "\n".join(f"  {name}" for name in names[:NAMED_IMAGES])
        more = f"\n  ... and {len(names) - NAMED_IMAGES} more" * (len(names) > NAMED_IMAGES)
        good = f"{self.out / STATE}, after step {self.saved}" if self.saved else "none"
        return (
            f"step {step + 1}: {what}\nlast good training state: {good}\n"
            f"images of the step:\n{shown}{more}\n{self.trainee.advice}"
        )

    def save(self) -> None:
        """Write the training state, and what the trainer wants beside it."""
        if self.log:
            keep_former(self.out / STATE, self.saved, self.settings.keep_states)
            write_state(self.out / STATE, self.trainee.kind, self.state(self.log))
            self.trainee.after_save(self.done)
        self.saved = self.done
        self.fabric.barrier()

    def state(self, log: RunLog) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "step": self.done,
            "seconds": self.seconds,
            "model": self.trainee.model.state_dict(),
            "optimizer": self.trainee.optimizer.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "scaler": self.precision.state_dict(),
            "values": self.values,
            "log": log.flush_to_disk(),
            "trainee": self.trainee.state(),
        }

    def restore(self) -> None:
        """Take up the run at the training state in its folder. Raises ValueError if it differs."""
        state = from_first(self.fabric, lambda: read_state(self.out / STATE, self.trainee.kind))
        self.trainee.load_state(state["trainee"])
        self.trainee.model.load_state_dict(state["model"])
        self.trainee.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.precision.load_state_dict(state["scaler"])
        self.values, self.log_lengths = state["values"], state["log"]
        self.done = self.saved = state["step"]
        self.seconds = state["seconds"]

    def count_speed(self, steps: int) -> float:
        """Tell the log how long `steps` steps took; return it in seconds."""
        seconds, data_seconds = self.clock.read()
        if self.log:
            self.log.count(steps * self.settings.batch_size, seconds, data_seconds)
        return seconds
