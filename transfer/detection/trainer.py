"""The training loop on Detectron2's trainer and hooks: exact to resume, and stopping on NaN.

A step is a function of (model, optimizer, seed, step number): batches come from loader.py, and the
generator that samples proposals and drops paths is seeded anew for every micro-batch. So a run that
was interrupted ends as an unbroken one, to the bit on a CPU.

Gradient accumulation averages the losses of `accumulate` micro-batches. BatchNorm (unless frozen)
still sees one micro-batch of one process at a time, and each micro-batch normalises its own losses:
with BatchNorm an accumulated step is not the same as one large batch.
"""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pretrain.files.encoder_file import first_not_finite
from pretrain.files.training_state import write_state
from pretrain.run.folder import STATE
from pretrain.run.seeds import seed_draws
from pretrain.run.stop import NotFiniteError, Stopped, StopRequest
from transfer.detection import checkpoint
from transfer.detection.log import restore_storage, storage_state
from transfer.detection.optimizer import set_lr

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """One optimizer step an iteration; `lr_at(step)` is the factor on the learning rates."""

    def __init__(
        self,
        model: nn.Module,
        loader_from: Callable[[int], Any],
        optimizer: torch.optim.Optimizer,
        lr_at: Callable[[int], float],
        *,
        seed: int,
        accumulate: int = 1,
        amp: bool = False,
        clip_norm: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.loader_from = model, optimizer, loader_from
        self.lr_at, self.seed, self.accumulate = lr_at, seed, accumulate
        self.amp, self.clip_norm, self.ema_decay = amp, clip_norm, ema
        self.done = 0  # optimizer steps
        self.seconds = 0.0  # spent training, over all resumed parts
        self.logged: dict[str, Any] = {}  # what the log was told before this part
        self.stop_request = StopRequest()  # of this process
        self.stop_asked = False  # of any process, and known to all
        self.bare = model.module if isinstance(model, DistributedDataParallel) else model
        self.ema = _float_copy(self.bare) if ema else None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train to `max_iter` steps. NotFiniteError, or Stopped after a signal."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self.batches: Iterator[list[dict[str, Any]]] = iter(self.loader_from(start_iter))
        self.model.train()
        with EventStorage(start_iter) as self.storage:
            restore_storage(self.storage, self.logged)
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    started = time.perf_counter()
                    self.before_step()
                    self.run_step()
                    self.done = self.iter + 1
                    self.seconds += time.perf_counter() - started
                    self.after_step()
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Losses of every micro-batch, one update."""
        factor = self.lr_at(self.iter)
        set_lr(self.optimizer, factor)
        waited, seen, sums = 0.0, [], []
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = next(self.batches)
            waited += time.perf_counter() - start
            seen.append(batch)
            # counted over all processes: two that take a part each draw what one draws for both
            place = part * comm.get_world_size() + comm.get_rank()
            seed_draws(self.seed, self.iter, place, 0)
            with self._synchronised(part == self.accumulate - 1), self._autocast():
                losses = self.model(batch)
                total = torch.stack(list(losses.values())).sum() / self.accumulate
            total.backward()
            sums.append(torch.stack([v.detach().float() for v in losses.values()]))
        norm = self._clip()
        logged, stop = self._agree(list(losses), torch.stack(sums).mean(0))
        self.storage.put_scalars(
            **logged, total_loss=sum(logged.values()), data_time=waited,
            lr=max(g["lr"] for g in self.optimizer.param_groups),
            **({"grad_norm": norm} if norm is not None else {}),
        )  # fmt: skip
        if not np.isfinite(sum(logged.values())) or (norm is not None and not np.isfinite(norm)):
            self.optimizer.zero_grad()
            raise NotFiniteError(_not_finite(self.iter, logged, norm, seen))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._update_ema()
        self.stop_asked = stop

    def _synchronised(self, last: bool) -> Any:
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> Any:
        """bfloat16 for matrix products; norms, softmax and losses stay in float32."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(next(self.bare.parameters()).device.type, torch.bfloat16)

    def _clip(self) -> float | None:
        if not self.clip_norm:
            return None
        return nn.utils.clip_grad_norm_(self.bare.parameters(), self.clip_norm).item()

    def _agree(self, names: list[str], means: torch.Tensor) -> tuple[dict[str, float], bool]:
        """Losses averaged over the processes, and whether any of them was asked to stop."""
        row = torch.cat([means, means.new_tensor([float(self.stop_request.signal > 0)])])
        if comm.get_world_size() > 1:
            dist.all_reduce(row)
            row /= comm.get_world_size()
        *values, stop = row.tolist()
        return dict(zip(names, values, strict=True)), stop > 0

    def _update_ema(self) -> None:
        if self.ema is None:
            return
        decay = min(self.ema_decay, (1 + self.done) / (10 + self.done))
        for name, value in self.bare.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value.float(), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, in tensors and plain values."""
        return {
            "step": self.done,
            "seconds": self.seconds,
            "model": self.bare.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "log": storage_state(self.storage, self.done),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved step."""
        self.done, self.seconds, self.logged = state["step"], state["seconds"], state["log"]
        self.bare.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            for name, value in state["ema"].items():
                self.ema[name].copy_(value)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model carries the averaged weights, where they are kept."""
        if self.ema is None:
            yield
            return
        own = {k: v.clone() for k, v in self.bare.state_dict().items()}
        self.bare.load_state_dict({**own, **self.ema})
        try:
            yield
        finally:
            self.bare.load_state_dict(own)


class SaveState(HookBase):
    """Write the training state every `period` steps, at the end, and before stopping."""

    def __init__(self, folder: Path, period: int, about: dict[str, Any]) -> None:
        self.folder, self.period, self.about = folder, period, about

    def after_step(self) -> None:
        trainer = self.trainer
        done, stop = trainer.done, trainer.stop_asked
        if stop or done % self.period == 0 or done == trainer.max_iter:
            self.save()
        if stop:
            logger.warning("stopped after step %d; continue with --resume", done)
            raise Stopped(trainer.stop_request.signal or signal.SIGTERM)

    def save(self) -> None:
        """Write the state (first process only); NotFiniteError if a weight is NaN or infinite.

        A step's loss is computed before its update, so the last update shows in no loss.
        """
        name = first_not_finite(self.trainer.bare.state_dict())
        if name is not None:
            raise NotFiniteError(
                f"after step {self.trainer.done}, {name} holds values that are not finite. Lower "
                "the learning rate or set train.clip_norm=1"
            )
        if comm.is_main_process():
            state = {**self.trainer.state_dict(), **self.about}
            write_state(self.folder / STATE, checkpoint.KIND, state)


def save_last_good(trainer: Trainer, folder: Path, about: dict[str, Any]) -> bool:
    """After a NotFiniteError: keep the weights of the step before, if they are finite."""
    finite = first_not_finite(trainer.bare.state_dict()) is None
    if finite and comm.is_main_process():
        write_state(folder / STATE, checkpoint.KIND, {**trainer.state_dict(), **about})
    return finite


def _float_copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.float().clone() for k, v in model.state_dict().items() if v.is_floating_point()}


def _not_finite(
    step: int, losses: dict[str, float], norm: float | None, seen: list[list[dict[str, Any]]]
) -> str:
    images = [image["file_name"] for batch in seen for image in batch]
    told = ", ".join(f"{k} = {v:.4g}" for k, v in losses.items())
    told += f", gradient norm = {norm}" if norm is not None else ""
    return (
        f"step {step}: {told}; the images of the step: {', '.join(images)}. Lower the learning "
        "rate, set train.clip_norm=1, or set train.amp=false"
    )
