"""What a run will be and cost, before it starts: nothing is written."""

import statistics
import time

import torch
from detectron2.engine import HookBase
from omegaconf import DictConfig

from transfer.detection.build import plain
from transfer.detection.counts import Counts, count, counting_size
from transfer.detection.loader import trainable
from transfer.detection.optimizer import lr_factor
from transfer.detection.run import make_trainer, peak_memory_mib
from transfer.detection.setup import Run, prepare

PROBE_STEPS, WARMUP_STEPS = 8, 3
BARS = " ▁▂▃▄▅▆▇█"
PLOT_COLUMNS = 60


def dry_run(config: DictConfig) -> list[str]:
    """Check and build everything, run a few steps, and say what the whole run would take."""
    setup = prepare(config)
    setup.detector.model.to(setup.device)
    schedule, batch = plain(config.schedule), config.train.batch
    images = len(trainable(setup.train.records))
    trainer = make_trainer(setup)
    seconds: list[float] = []
    steps = min(PROBE_STEPS, schedule["steps"])
    trainer.register_hooks([_Clock(seconds, setup.device)])
    trainer.train(0, steps)
    step_s = statistics.median(seconds[WARMUP_STEPS:] or seconds)
    encoder = sum(p.numel() for p in setup.detector.features.encoder.parameters())
    counts = _counts(setup)
    epochs = schedule["steps"] * batch / images
    return [
        f"data: {config.data.name}, {images:,} training and {len(setup.val.records):,} validation "
        f"images, {len(setup.val.classes)} classes",
        f"model: {setup.detector.features.arch}, {encoder / 1e6:.2f} M parameters in the encoder, "
        f"{sum(counts.parameters.values()) / 1e6:.2f} M in all",
        f"forward pass: {counts}",
        f"weights: {setup.detector.report or 'none, from scratch'}",
        f"schedule: {schedule['steps']:,} steps of {batch} images ({epochs:.1f} epochs)",
        f"learning rate: {config.optimizer.lr:g} at most",
        f"  |{_plot(schedule)}|",
        f"probe on {setup.device}: {batch / step_s:.2f} images/s, {step_s:.3f} s a step, peak "
        f"memory {peak_memory_mib(setup.device):,.0f} MiB",
        f"training would take {schedule['steps'] * step_s / 3600:.2f} hours without evaluation",
    ]


def _counts(setup: Run) -> Counts:
    """At the size the papers count at, or that of an image where tests do not resize."""
    sides = [step for step in setup.config.input.test if "short_edge_length" in step]
    image = setup.val.records[0]
    size = (image["height"], image["width"])
    if sides:
        size = counting_size(sides[0].short_edge_length, sides[0].max_size)
    return count(setup.detector.model, size)


class _Clock(HookBase):
    """Seconds of every step, the waiting for data included."""

    def __init__(self, seconds: list[float], device: torch.device) -> None:
        self.seconds, self.device = seconds, device

    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.started)


def _plot(schedule: dict) -> str:
    """The learning rate over the run as one line of bars."""
    columns = min(PLOT_COLUMNS, schedule["steps"])
    at = [round(i * (schedule["steps"] - 1) / max(columns - 1, 1)) for i in range(columns)]
    return "".join(BARS[round(lr_factor(step, **schedule) * (len(BARS) - 1))] for step in at)
