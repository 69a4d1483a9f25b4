"""Time several ways to do one thing, taking turns, so that a busy machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Seconds = dict[str, list[float]]


def interleave(
    calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int, device: torch.device
) -> Seconds:
    """Time each call in each of `rounds`, in seconds, after `warmup` rounds not counted.

    CPU seconds on one CPU thread, so that waiting for other programs does not count; else wall
    clock, a GPU's queue emptied first.
    """
    own = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if own else time.perf_counter
    seconds: Seconds = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            synchronize(device)
            start = clock()
            call()
            synchronize(device)
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(seconds: Seconds, slow: str, fast: str) -> float:
    """Return how many times faster `fast` is than `slow`: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def beside(
    phase: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    name: str,
    images: int,
    rounds: int,
    warmup: int,
    device: torch.device,
) -> dict[str, object]:
    """Return images per second of both and their ratio (above 1: ours is faster); print a line."""
    seconds = interleave({"ours": ours, name: theirs}, rounds, warmup, device)
    speed = {side: images / statistics.median(times) for side, times in seconds.items()}
    ratio = median_ratio(seconds, name, "ours")
    sides = "   ".join(f"{side} {value:8.2f} images/s" for side, value in speed.items())
    print(f"{phase:<10} {sides}   ratio {ratio:.3f}")
    return {"images_per_second": speed, "ratio": ratio}


def synchronize(device: torch.device) -> None:
    """Wait for a GPU to finish its queue; do nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
