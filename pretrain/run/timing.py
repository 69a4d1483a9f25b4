"""How long a training step takes, measured on a loop before its run: for estimates."""

import statistics
import time

import torch

from pretrain.run.loop import Loop

PROBE_STEPS, WARMUP_STEPS = 8, 3


def median_step_seconds(loop: Loop) -> float:
    """Return the median seconds of a step, the waiting for data included.

    Trains PROBE_STEPS steps, or as many as the run has; the first WARMUP_STEPS do not count where
    there are more.
    """
    batches = loop.trainee.batches(0)
    loop.model.train()
    seconds = []
    for step in range(min(PROBE_STEPS, loop.settings.steps)):
        started = time.perf_counter()
        loop.train_step(step, batches)
        if loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARMUP_STEPS:] or seconds)
