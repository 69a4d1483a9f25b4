"""MMEngine's Runner with an exact resume, atomic states, and processes on a CPU as well."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from pretrain.run.batch_norm import has_batch_norm, synchronised
from pretrain.run.folder import STATE
from pretrain.run.precision import use_tensor_cores
from pretrain.run.stop import StopRequest, outlive_signals

# Some are imported for what they register: the names that configs use.
from transfer.segmentation import (  # noqa: F401
    average,
    backbone,
    data,
    labels,
    linear_head,
    schedule,
    segmentor,
)
from transfer.segmentation import iou as metric
from transfer.segmentation import optimizer as optim
from transfer.segmentation.hooks import LogHook
from transfer.segmentation.state import load, save

logger = logging.getLogger(__name__)


class TransferRunner(Runner):
    """Runner whose whole state lies in WORK_DIR/state.pt.

    Random states need no storing: data.py and hooks.py derive them from the seed and the step.
    """

    timestamp = ""  # MMEngine's folder for each start: WORK_DIR itself
    metrics: dict[str, float] | None = None  # of the last evaluation, if it was at the end

    def __init__(self, *args: Any, accumulation_steps: int, **kwargs: Any) -> None:
        self.accumulation_steps = accumulation_steps
        self.stop = StopRequest()  # replaced by the one that hears signals
        self.when_built: Callable[[], None] = lambda: None  # called before the first step
        self.notes: list[str] = []
        self.batch_images: list[str] = []  # paths, of the forward pass at work
        self.data_seconds = self.pass_seconds = 0.0  # of the last forward pass
        self.seconds_before = 0.0  # of earlier processes of this run
        self.train_seconds, self.updates = 0.0, 0
        self.started = time.monotonic()
        super().__init__(*args, log_level="WARNING", **kwargs)

    @property
    def unwrapped_model(self) -> Any:
        """Return the model without a wrapper for several processes."""
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
        """Return the trained images per second of training; None where nothing was trained."""
        return self.updates * batch_size / self.train_seconds if self.train_seconds else None

    def evaluate(self) -> dict[str, float]:
        """Return figures on the evaluation set; those of the end of training where there are."""
        return self.metrics if self.metrics is not None else self.val_loop.run()

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Wrap as Runner does; with `sync_bn` BatchNorm uses the statistics of all processes."""
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
        logger.warning(text)

    @master_only
    def save_state(self, passes: int) -> None:
        """Write state.pt, after so many forward passes; NotFiniteError for unsound weights."""
        state: dict[str, Any] = {
            "step": passes // self.accumulation_steps,
            "seconds": self.seconds,
            "train_seconds": self.train_seconds,
            "updates": self.updates,
            "model": self.unwrapped_model.state_dict(),
            "average": None,
            "optimizer": self.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers],
        }
        self.call_hook("before_save_checkpoint", checkpoint=state)
        save(Path(self.work_dir) / STATE, state)

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Continue from a file that `save_state` wrote."""
        state = load(Path(filename))
        self.call_hook("after_load_checkpoint", checkpoint=state)
        self.unwrapped_model.load_state_dict(state["model"], strict=True)
        self.train_loop._iter = state["step"] * self.accumulation_steps
        self.seconds_before = state["seconds"]
        self.train_seconds, self.updates = state["train_seconds"], state["updates"]
        self.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, saved in zip(self.param_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self._has_loaded = True

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of a state, for evaluation alone."""
        self.unwrapped_model.load_state_dict(weights, strict=True)
        self._has_loaded = True

    def close_log(self) -> None:
        """Close the run's log, where there is one."""
        for hook in self.hooks:
            if isinstance(hook, LogHook):
                hook.close()

    def build_logger(self, log_level: Any = "INFO", *_: Any, **__: Any) -> MMLogger:
        """Return MMEngine's logger without its file: log.txt is the run's own."""
        return MMLogger.get_instance(self._experiment_name, log_level=log_level)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Log nothing: the record holds the environment, run.json the config."""

    def get_hooks_info(self) -> str:
        """Return nothing: not worth a page of the log."""
        return ""

    def dump_config(self) -> None:
        """Write nothing: run.py writes run.json."""


def build_runner(
    cfg: Config, work_dir: Path, several: bool = False, training: bool = True
) -> TransferRunner:
    """Return a runner for a filled-in config, in one of `several` processes or alone.

    Without `training` it evaluates alone, and writes no state and no log. ValueError where it
    cannot run as configured.
    """
    hooks = training_hooks(cfg) if training else []
    optim_wrapper = {**cfg["optim_wrapper"], "type": optim.wrapper_type(cfg["precision"])}
    evaluator = dict(cfg["val_evaluator"])
    if cfg["save_predictions"]:
        evaluator["output_dir"] = str(work_dir / metric.PREDICTIONS)
    use_tensor_cores()
    # MMEngine's own function only seeds the data process, on which no draw depends here
    data_process = {"type": outlive_signals}
    try:
        return TransferRunner(
            accumulation_steps=cfg["accumulation_steps"],
            model=cfg["model"],
            work_dir=str(work_dir),
            train_dataloader={**cfg["train_dataloader"], "worker_init_fn": data_process},
            val_dataloader={**cfg["val_dataloader"], "worker_init_fn": data_process},
            train_cfg=cfg["train_cfg"],
            val_cfg=cfg["val_cfg"],
            val_evaluator=evaluator,
            optim_wrapper=optim_wrapper,
            param_scheduler=cfg["param_scheduler"],
            default_hooks={"logger": None, "checkpoint": None, "sampler_seed": None},
            custom_hooks=[*hooks, *cfg.get("custom_hooks", [])],
            launcher="pytorch" if several else "none",
            env_cfg={
                "cudnn_benchmark": True,
                "mp_cfg": {"mp_start_method": "fork"},
                "dist_cfg": {"backend": "nccl"},
            },
            log_processor={"by_epoch": False},
            visualizer={"type": "Visualizer", "vis_backends": []},
            default_scope="mmseg",
            randomness={"seed": cfg["seed"]},
            experiment_name=f"{work_dir.name}-{os.urandom(4).hex()}",
            cfg=Config({"sync_bn": cfg["sync_bn"]}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"MMSegmentation cannot build this config: {' '.join(map(str, error.args))}"
        ) from error


def training_hooks(cfg: Config) -> list[dict[str, Any]]:
    """Return the hooks of the training of a filled-in config."""
    each = {"accumulation_steps": cfg["accumulation_steps"]}
    log = {
        "steps": cfg["log_steps"],
        "images": cfg["batch_size"] // cfg["accumulation_steps"],
        "tensorboard": cfg["tensorboard"],
        "figures": cfg["eval_steps"] is not None,
    }
    states = {"steps": cfg["checkpoint_steps"], "evaluation_passes": cfg["evaluation_passes"]}
    listed: list[dict[str, Any]] = [
        {"type": "StepHook", **each},
        {"type": "LogHook", **log, **each},
        {"type": "SaveHook", **states, **each},
    ]
    if cfg["eval_steps"] is not None:
        listed.append({"type": "BestHook", **each})
    if cfg["ema_decay"] is not None:
        listed.append({"type": "AverageHook", "decay": cfg["ema_decay"], **each})
    return listed


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
