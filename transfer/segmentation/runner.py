"""MMEngine's Runner with an exact resume, atomic checkpoints, and processes on a CPU as well."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

# Imported for what they register: the names that configs use.
from pretrain.run.batch_norm import has_batch_norm, synchronised
from transfer.segmentation import backbone, data, hooks, labels, log, segmentor  # noqa: F401
from transfer.segmentation import iou as metric
from transfer.segmentation import optimizer as optim
from transfer.segmentation.run_folder import LAST
from transfer.segmentation.safe_files import FORMAT, read_tensors, write_tensors


class TransferRunner(Runner):
    """Runner whose whole state lies in WORK_DIR/last.pth.

    `about` is stored beside the state: what another process has to know to go on or to evaluate.
    Random states need no storing: data.py and hooks.py derive them from the seed and the step.
    """

    stopped = False  # by SIGTERM, before the end
    timestamp = ""  # MMEngine's folder for each start: WORK_DIR itself
    metrics: dict[str, float] | None = None  # of the last evaluation, if it was at the end

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.about: dict[str, Any] = {}
        self.notes: list[str] = []
        self.batch_images: list[str] = []  # paths, of the step at work
        self.seconds_before = 0.0  # of earlier processes of this run
        self.train_seconds, self.updates = 0.0, 0
        self.started = time.monotonic()
        super().__init__(*args, log_level="WARNING", **kwargs)
        for handler in (self.logger, *self.logger.handlers):
            handler.setLevel(logging.INFO)

    @property
    def core(self) -> Any:
        """The model without a wrapper for several processes."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    @property
    def seconds(self) -> float:
        """Wall clock of the run so far, earlier processes included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Measure -> class -> percent, of the last evaluation."""
        return self.val_loop.evaluator.metrics[0].per_class

    def images_per_second(self, batch_size: int) -> float | None:
        """Trained images a second of training; None where nothing was trained."""
        return self.updates * batch_size / self.train_seconds if self.train_seconds else None

    def evaluate(self) -> dict[str, float]:
        """Figures on the evaluation set; those of the end of training where there are any."""
        return self.metrics if self.metrics is not None else self.val_loop.run()

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """As Runner's; with `sync_bn` BatchNorm uses the statistics of all processes."""
        sync_bn = bool(self.cfg.get("sync_bn")) and has_batch_norm(model)
        if not self.distributed:
            if sync_bn:
                self.note("sync_bn: BatchNorm uses the batch of the one process there is")
            return model.to(_device())
        if sync_bn:
            model = synchronised(model, _device())
        model = model.to(_device())
        ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
        return MMDistributedDataParallel(
            model, device_ids=ids, broadcast_buffers=False, **(model_wrapper_cfg or {})
        )

    def note(self, text: str) -> None:
        """Say it now, and keep it for the record."""
        self.notes.append(text)
        self.logger.warning(text)

    @master_only
    def save_state(self) -> None:
        """Write last.pth in one step; refuses weights that are not finite."""
        checkpoint: dict[str, Any] = {
            "format": FORMAT,
            "state_dict": self.core.state_dict(),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [s.state_dict() for s in self.param_schedulers],
            "meta": {
                "iter": self.iter + 1,
                "seconds": self.seconds,
                "train_seconds": self.train_seconds,
                "updates": self.updates,
                "about": json.dumps(self.about, default=str),
            },
        }
        check_finite(checkpoint["state_dict"])
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        write_tensors(Path(self.work_dir) / LAST, checkpoint)

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Continue from a file that `save_state` wrote."""
        checkpoint = read_tensors(filename, _device())
        meta = checkpoint["meta"]
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.core.load_state_dict(checkpoint["state_dict"], strict=True)
        self.train_loop._iter = meta["iter"]
        self.seconds_before = meta["seconds"]
        self.train_seconds, self.updates = meta["train_seconds"], meta["updates"]
        self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        for scheduler, state in zip(
            self.param_schedulers, checkpoint["param_schedulers"], strict=True
        ):
            scheduler.load_state_dict(state)
        self._has_loaded = True

    def load_weights(self, checkpoint: dict[str, Any]) -> None:
        """Take the weights that `save_state` wrote, for evaluation alone."""
        self.core.load_state_dict(checkpoint["state_dict"], strict=True)
        self._has_loaded = True

    def build_logger(self, log_level: Any = "INFO", *_: Any, **more: Any) -> Any:
        """As Runner's, into WORK_DIR/log.txt."""
        return super().build_logger(log_level, str(Path(self.work_dir) / "log.txt"), **more)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """The record holds the environment, WORK_DIR/config.json the config."""

    def get_hooks_info(self) -> str:
        """Not worth a page of the log."""
        return ""

    def dump_config(self) -> None:
        """train.py writes config.json."""


def build_runner(cfg: Config, work_dir: Path, launcher: str = "none") -> TransferRunner:
    """A runner for a filled-in config."""
    passes = cfg["accumulation"]
    optim_wrapper = {
        **cfg["optim_wrapper"],
        "type": optim.wrapper_type(cfg["amp"], cfg["amp_dtype"]),
    }
    evaluator = dict(cfg["val_evaluator"])
    if cfg["save_predictions"]:
        evaluator["output_dir"] = str(work_dir / metric.PREDICTIONS)
    return TransferRunner(
        model=cfg["model"],
        work_dir=str(work_dir),
        train_dataloader=cfg["train_dataloader"],
        val_dataloader=cfg["val_dataloader"],
        train_cfg=cfg["train_cfg"],
        val_cfg=cfg["val_cfg"],
        val_evaluator=evaluator,
        optim_wrapper=optim_wrapper,
        param_scheduler=cfg["param_scheduler"],
        default_hooks={
            "logger": {"type": "LoggerHook", "interval": cfg["log_interval"] * passes,
                       "log_metric_by_epoch": False},
            "checkpoint": None,
            "sampler_seed": None,
        },
        custom_hooks=[
            {"type": "StepHook"},
            {"type": "LogHook", "interval": cfg["log_interval"], "accumulation": passes,
             "tensorboard": cfg["tensorboard"]},
            {"type": "SaveHook", "interval": cfg["save_interval"], "accumulation": passes},
            *_average(cfg["ema"]),
            *cfg.get("custom_hooks", []),
        ],
        launcher=launcher,
        env_cfg={"cudnn_benchmark": True, "mp_cfg": {"mp_start_method": "fork"},
                 "dist_cfg": {"backend": "nccl"}},
        log_processor={"by_epoch": False},
        visualizer={"type": "Visualizer", "vis_backends": []},
        default_scope="mmseg",
        randomness={"seed": cfg["seed"]},
        experiment_name=f"{work_dir.name}-{os.urandom(4).hex()}",
        cfg=Config({"sync_bn": cfg["sync_bn"]}),
    )  # fmt: skip


def _average(ema: float | None) -> list[dict[str, Any]]:
    """MMEngine's moving average: its weights are evaluated, and saved as the model's."""
    if ema is None:
        return []
    if not 0 < ema < 1:
        raise ValueError(f"ema is the share that is kept at each step, e.g. 0.9999, got {ema}")
    return [{"type": "EMAHook", "momentum": 1 - ema, "update_buffers": True, "priority": 49}]


def read_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU; ValueError for any other file."""
    checkpoint = read_tensors(path)
    if checkpoint.get("format") != FORMAT:
        raise ValueError(f"{path} is not the state of a segmentation run of this suite")
    return checkpoint


def read_about(path: Path) -> dict[str, Any]:
    """What a run stored about itself in its last.pth."""
    return json.loads(read_state(path)["meta"]["about"])


def net_of(about: dict[str, Any]) -> dict[str, Any]:
    """The net of a former run, to be filled from its last.pth: no weights file is read again."""
    return {"weights": "none", "arch": about["arch"], "arch_args": about["arch_args"]}


def check_finite(tensors: dict[str, Any]) -> None:
    """FloatingPointError names the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FloatingPointError(f"{name} holds values that are not finite")


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
