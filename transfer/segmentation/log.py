"""WORK_DIR/log.jsonl and tensorboard/: the course of a training, as if never interrupted."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.tensorboard import SummaryWriter

LOG, TENSORBOARD = "log.jsonl", "tensorboard"


@HOOKS.register_module()
class LogHook(Hook):
    """One line every `interval` steps and at the end: the means over the steps since the last line.

    The checkpoint holds the log's length and the values of the line that is not yet complete; what
    was written after it is cut off when the run goes on.
    """

    priority = "LOW"  # before SaveHook: a saved step is in the log

    def __init__(self, interval: int, accumulation: int = 1, tensorboard: bool = False) -> None:
        self.interval, self.accumulation, self.tensorboard = interval, accumulation, tensorboard
        self.board: SummaryWriter | None = None
        self.length = 0  # bytes, at the checkpoint that the run goes on from
        self.sums: dict[str, torch.Tensor] = {}
        self.passes = 0  # that the sums are over

    def before_train(self, runner: Any) -> None:
        """Open the log where the checkpoint left it."""
        if not is_main_process():
            return
        out = Path(runner.work_dir)
        self.file = (out / LOG).open("a")
        if self.file.tell() < self.length:
            raise ValueError(
                f"{out / LOG} is shorter than at the checkpoint ({self.file.tell()} of "
                f"{self.length} bytes): it was changed; give another --work-dir"
            )
        self.file.truncate(self.length)
        if self.tensorboard:
            done = runner.iter // self.accumulation
            self.board = SummaryWriter(str(out / TENSORBOARD), purge_step=done + 1)

    def after_train_iter(self, runner: Any, *, outputs: dict[str, torch.Tensor], **_: Any) -> None:
        """Add the values of a forward pass; write a line when it is time."""
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()
        self.passes += 1
        step, within = divmod(runner.iter + 1, self.accumulation)
        last = runner.iter + 1 == runner.max_iters
        if within or (step % self.interval and not last):
            return
        means = {name: float(total) / self.passes for name, total in self.sums.items()}
        self.sums, self.passes = {}, 0
        if is_main_process():
            lr = runner.message_hub.get_scalar("train/base_lr").current()
            line = {"step": step, **means, "lr": lr, "seconds": round(runner.seconds, 2)}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            if self.board:
                for name, value in line.items():
                    self.board.add_scalar(name, value, step)
                self.board.flush()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the figures of an evaluation during training."""
        if is_main_process() and runner.cfg["eval_steps"]:
            step = runner.iter // self.accumulation
            self.file.write(json.dumps({"step": step, **(metrics or {})}) + "\n")
            self.file.flush()
            if self.board:
                for name, value in (metrics or {}).items():
                    self.board.add_scalar(name, value, step)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the log on disk, and what is not yet in it into the checkpoint."""
        os.fsync(self.file.fileno())
        checkpoint["log"] = {
            "log_bytes": self.file.tell(),
            "sums": self.sums,
            "passes": self.passes,
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Go on from there."""
        log = checkpoint["log"]
        self.length, self.sums, self.passes = log["log_bytes"], log["sums"], log["passes"]

    def after_train(self, runner: Any) -> None:  # noqa: ARG002
        """Close the log."""
        if is_main_process():
            self.file.close()
        if self.board:
            self.board.close()
