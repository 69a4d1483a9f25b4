"""What a suite's steps will take, from runs of the same settings on the same device.

A step of which no such run is found is "unknown", or estimated from its multiply-adds at the speed
that the user names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pretrain.run.folder import ENCODER, RECORD, is_whole
from transfer.suites import flops
from transfer.suites.marks import SUFFIX, digest_of, read_mark_file
from transfer.suites.steps import Step

PRODUCTS = (RECORD, ENCODER, "shapes.json")
Key = tuple[str, str, int]  # settings, device, GPUs


@dataclass(frozen=True)
class Cost:
    """Wall-clock hours of a step on its GPUs, and how many runs say so."""

    hours: float
    runs: int  # 0: estimated
    gpus: int

    @property
    def gpu_hours(self) -> float:
        """Return hours times devices."""
        return self.hours * max(1, self.gpus)


def costs(
    steps: Sequence[Step], places: Iterable[Path], device: str, tflops: float | None = None
) -> dict[str, Cost]:
    """Return what steps will take by name, as far as finished runs below `places` tell.

    With `tflops` (TFLOP/s that each device keeps up) the other cells' training is estimated.
    """
    known: dict[Key, list[float]] = {}
    for path in sorted({file for place in places for file in place.rglob(f"*{SUFFIX}")}):
        mark = read_mark_file(path)
        if mark is not None and mark.hours is not None and _is_finished(path):
            known.setdefault(_key(mark.fingerprint, mark.device, mark.gpus), []).append(mark.hours)
    found = {}
    for step in steps:
        settings = json.loads(json.dumps(step.settings))
        hours = known.get(_key(settings, device, step.gpus))
        if hours:
            found[step.name] = Cost(fmean(hours), len(hours), step.gpus)
        elif tflops is not None and (estimated := flops.hours(step, tflops)) is not None:
            found[step.name] = Cost(estimated, 0, step.gpus)
    return found


def _is_finished(mark: Path) -> bool:
    folder = mark.with_name(mark.name.removesuffix(SUFFIX))
    return any(is_whole(folder / product) for product in PRODUCTS)


def _key(settings: Mapping[str, Any], device: str, gpus: int) -> Key:
    """Return what runs of equal length have in common: all but seeds and weights."""
    same = {k: v for k, v in settings.items() if k not in ("weights", "seed", "needs")}
    if isinstance(same.get("config"), dict):
        same["config"] = {k: v for k, v in same["config"].items() if k != "seed"}
    return digest_of(same), device, gpus


def in_words(steps: Sequence[Step], found: Mapping[str, Cost], price: float | None) -> str:
    """Return the sum over steps, and what it leaves out."""
    mine = [found[step.name] for step in steps if step.name in found]
    unknown = len(steps) - len(mine)
    if not mine:
        return (
            f"hours unknown: no finished run with these settings on this device ({unknown} steps)"
        )
    gpu_hours = sum(cost.gpu_hours for cost in mine)
    estimated = sum(cost.runs == 0 for cost in mine)
    how = f"{estimated} of {len(mine)} steps estimated" if estimated else "as such runs took"
    money = "" if price is None else f", {gpu_hours * price:.2f} at {price:g} an hour"
    left = f"; {unknown} steps unknown" if unknown else ""
    return f"{gpu_hours:.2f} device hours{money}, {how}{left}"


def hours_in_words(cost: Cost | None) -> str:
    """Return a step's hours, or that they are not known."""
    if cost is None:
        return "unknown"
    source = f"{cost.runs} runs" if cost.runs else "estimated"
    return f"{cost.hours:.3g} h ({source})"
