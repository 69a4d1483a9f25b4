"""Data at full size: indexes, first batches, memory, images per second, COCO's annotations.

Everything is made up in a temporary folder (--folder names the disk; 1 GB at the defaults) and
removed at the end. The operating system still holds what was just written: a first index of a real
disk is slower. Parts: --parts files shards growth pipeline coco.
"""

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from pretrain.config import Augmentation
from pretrain.data.batches import ImageSamples, loader
from pretrain.data.masks import random_visible
from pretrain.data.order import BatchShare, Order
from pretrain.data.sources import Images, open_images
from tools.benchmarks import pipelines
from tools.benchmarks.made_up import SMALL_PX, write_coco, write_files, write_shards

Part = Literal["files", "shards", "growth", "pipeline", "coco"]
PARTS: tuple[Part, ...] = get_args(Part)
GOALS = {
    "first_batch_s": 20.0,  # from the start of the process
    "growth_mib": 50.0,  # of a worker's own memory over an epoch
    "ratio": 1.0,  # images per second beside torchvision's
}
PHOTO = (500, 375)  # pixels of an average ImageNet photo
BATCH, WORKERS = 64, 2
MIB = 2**20

Figures = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """The sizes; the defaults are ImageNet-1K's and COCO train2017's."""

    parts: tuple[Part, ...] = PARTS
    """What is measured."""
    images: int = 1_281_167
    """Images to pretrain on."""
    folders: int = 1000
    """Class folders that they lie in."""
    shards: int = 1000
    """Tar shards that they lie in."""
    growth_images: int | None = None
    """Images of an epoch of the part growth; default: --images."""
    coco_images: int = 118_000
    """Images of the COCO annotations."""
    coco_instances: int = 860_000
    """Instances of the COCO annotations."""
    rounds: int = 8
    """Rounds of 16 images, each side in turn."""
    folder: Path | None = None
    """Where the temporary folder is made."""


def run(args: Arguments) -> Figures:
    """Return the figures of the parts asked for; prints each beside its goal."""
    torch.set_num_threads(1)
    figures: Figures = {"goals": GOALS}
    root = Path(tempfile.mkdtemp(prefix="data-benchmark-", dir=args.folder))
    os.environ["MIM_TRANSFER_CACHE"] = str(root / "cache")
    try:
        for part in args.parts:
            figures[part] = MEASURE[part](root, args)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return figures


def measure_files(root: Path, args: Arguments) -> Figures:
    """Return the figures of a folder of small files."""
    return measure_starts("files", small_files(root, args))


def measure_shards(root: Path, args: Arguments) -> Figures:
    """Return the figures of a folder of tar shards."""
    return measure_starts("shards", write_shards(root, args.images, args.shards))


def small_files(root: Path, args: Arguments) -> Path:
    """Return the folder of `args.images` small files; it is made once."""
    place = root / "small" / "train"
    if not place.is_dir():
        write_files(root / "small", args.images, args.folders, SMALL_PX, SMALL_PX)
    return place


def measure_starts(name: str, place: Path) -> Figures:
    """Return seconds and peak memory of a first and of a second start, each a new process."""
    figures: Figures = {}
    for start in ("first", "second"):
        begun = time.time()
        facts = in_new_process(start_to_batch, place)
        for moment in ("imported", "first_batch"):
            facts[f"{moment}_s"] = facts.pop(f"{moment}_at") - begun
        figures[start] = facts
        goal = f" (goal: {GOALS['first_batch_s']:g} s)" if start == "second" else ""
        print(
            f"{name:<7} {start:<6} start, {facts['images']:,} images: imports "
            f"{facts['imported_s']:.1f} s, opened in {facts['open_s']:.1f} s, first batch "
            f"{facts['first_batch_s']:.1f} s after the start{goal}, peak "
            f"{facts['peak_mib']:.0f} MiB, of a child {facts['peak_child_mib']:.0f} MiB"
        )
    return figures


def in_new_process(work: Callable[..., Figures], *arguments: Any) -> Figures:
    """Return what `work` returns in a new Python process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        facts: Figures = receiver.recv()
    except EOFError:
        raise ValueError(f"the process that measures {work.__name__} failed") from None
    process.join()
    return facts


def _send(sender: Any, work: Callable[..., Figures], arguments: tuple[Any, ...]) -> None:
    sender.send(work(*arguments))


def start_to_batch(place: Path) -> Figures:
    """Open the images and wait for a first batch from data processes."""
    imported_at = time.time()
    torch.set_num_threads(1)
    start = time.perf_counter()
    images = open_images(place, len(os.sched_getaffinity(0)))
    open_s = time.perf_counter() - start
    next(batches(images, steps=4))
    at = time.time()
    peak, child = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "images": len(images),
        "open_s": open_s,
        "imported_at": imported_at,
        "first_batch_at": at,
        "peak_mib": peak,
        "peak_child_mib": child,
    }


def batches(images: Images, steps: int, workers: int = WORKERS) -> Any:
    """Return batches of small crops: reading, not resizing, is what is measured with them."""
    draw = partial(random_visible, grid=(7, 7), n_visible=20)
    samples = ImageSamples(images, Augmentation(), (SMALL_PX,), draw, 0)
    order = Order(len(images), BATCH, max(1, len(images) // BATCH), 0)
    return loader(samples, order, BatchShare.of(BATCH, BATCH), steps, 0, workers, False)


def measure_growth(root: Path, args: Arguments) -> Figures:
    """Return how much a data process's own memory grows over an epoch of small files."""
    place, count = small_files(root, args), args.growth_images or args.images
    figures = in_new_process(read_an_epoch, place, count)
    print(
        f"growth   {figures['images']:,} images in {figures['seconds']:.0f} s: a data process's "
        f"memory grows by {figures['growth_mib']:.1f} MiB (goal: {GOALS['growth_mib']:g} MiB)"
    )
    return figures


def read_an_epoch(place: Path, count: int) -> Figures:
    """Read `count` images in one data process; its own memory early on, at the half, at the end."""
    torch.set_num_threads(1)
    images = open_images(place)
    steps = min(count, len(images)) // BATCH
    looks, memory = (min(20, steps - 1), steps // 2, steps - 1), []
    start = time.perf_counter()
    for step, _ in enumerate(batches(images, steps, workers=1)):
        if step in looks:
            memory.append(own_memory())
    return {
        "images": steps * BATCH,
        "seconds": time.perf_counter() - start,
        "memory_mib": memory,
        "growth_mib": memory[-1] - memory[0],
    }


def own_memory() -> float:
    """Return the MiB of the one data process that no file stands behind."""
    (worker,) = multiprocessing.active_children()
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ValueError("this system does not tell a process's own memory (RssAnon)")


def measure_pipeline(root: Path, args: Arguments) -> Figures:
    """Return images per second of one data process: each recipe's pipeline, and torchvision's."""
    images = open_images(write_files(root / "photos", 64, 1, *PHOTO))
    figures = pipelines.beside_torchvision(images, args.rounds)
    print(f"{'':<10} goal: ratio {GOALS['ratio']:g} or above")
    return figures


def measure_coco(root: Path, args: Arguments) -> Figures:
    """Return seconds and peak memory of reading annotations of COCO's size, in a new process."""
    path = write_coco(root / "instances.json", args.coco_images, args.coco_instances)
    facts = in_new_process(read_annotations, path)
    facts["file_mib"] = path.stat().st_size / MIB
    print(
        f"coco     {facts['images']:,} images, {facts['instances']:,} instances, "
        f"{facts['file_mib']:.0f} MiB: {facts['read_s']:.1f} s, peak {facts['peak_mib']:.0f} MiB"
    )
    return facts


def read_annotations(path: Path) -> Figures:
    """Read COCO annotations as detection does."""
    from transfer.detection.data import read_split

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    split = read_split("made_up", path, path.parent)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    instances = sum(len(record["annotations"]) for record in split.records)
    return {
        "images": len(split.records),
        "instances": instances,
        "read_s": seconds,
        "peak_mib": peak,
        "imports_mib": before,
    }


MEASURE: dict[Part, Callable[[Path, Arguments], Figures]] = {
    "files": measure_files,
    "shards": measure_shards,
    "growth": measure_growth,
    "pipeline": measure_pipeline,
    "coco": measure_coco,
}
