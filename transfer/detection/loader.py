"""Batches as a function of (seed, step): the order of images and every augmentation.

The stream of training images is a permutation of the split after another, each drawn from (seed,
epoch); wide and tall images are grouped as Detectron2 does, to pad less. The stream is cut into
micro-batches, and micro-batch number `(step * accumulate + i) * processes + rank` goes to that
process: so a resumed run, more processes or more workers see the same images in the same order, and
an image's augmentation depends only on its place in the stream.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from detectron2.data import DatasetMapper
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

Draw = tuple[int, int]  # place in the stream, index of the record


def micro_batches(wide: Sequence[bool], size: int, seed: int) -> Iterator[list[Draw]]:
    """Endless micro-batches of `size` draws, each of wide or of tall images only."""
    buckets: dict[bool, list[Draw]] = {True: [], False: []}
    place, epoch = 0, 0
    while True:
        for index in np.random.default_rng((seed, epoch)).permutation(len(wide)).tolist():
            bucket = buckets[wide[index]]
            bucket.append((place, index))
            place += 1
            if len(bucket) == size:
                yield bucket[:]
                bucket.clear()
        epoch += 1


class MicroBatchSampler(Sampler):
    """This process' share of the micro-batches, from `start_step` on."""

    def __init__(
        self, wide: Sequence[bool], size: int, *, seed: int, accumulate: int, start_step: int
    ) -> None:
        self.wide, self.size, self.seed = wide, size, seed
        self.world = comm.get_world_size()
        self.first = start_step * accumulate * self.world + comm.get_rank()

    def __iter__(self) -> Iterator[list[Draw]]:
        stream = micro_batches(self.wide, self.size, self.seed)
        return islice(stream, self.first, None, self.world)


class TrainImages(Dataset):
    """(place, index) -> the mapped record, its augmentation drawn from (seed, place)."""

    def __init__(self, records: list[dict[str, Any]], mapper: DatasetMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        place, index = draw
        before = np.random.get_state()  # noqa: NPY002 - Detectron2 draws from the global generator
        np.random.seed(np.random.SeedSequence((self.seed, place)).generate_state(4))  # noqa: NPY002
        try:
            return self.mapper(self.records[index])
        finally:
            np.random.set_state(before)  # noqa: NPY002


class TestImages(Dataset):
    """Every `processes`-th record, mapped."""

    def __init__(self, records: list[dict[str, Any]], mapper: DatasetMapper) -> None:
        self.records = records[comm.get_rank() :: comm.get_world_size()]
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.mapper(self.records[index])


def trainable(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with at least one object that is not a crowd (as Detectron2 filters)."""
    kept = [r for r in records if any(not a["iscrowd"] for a in r["annotations"])]
    if not kept:
        raise ValueError("no training image has an annotation that is not a crowd")
    return kept


def train_loader(
    records: list[dict[str, Any]],
    mapper: DatasetMapper,
    *,
    micro_batch: int,
    accumulate: int,
    seed: int,
    start_step: int,
    workers: int,
) -> DataLoader:
    """Endless lists of `micro_batch` mapped records, `accumulate` of them a step."""
    wide = [r["width"] > r["height"] for r in records]
    sampler = MicroBatchSampler(
        wide, micro_batch, seed=seed, accumulate=accumulate, start_step=start_step
    )
    images = TrainImages(records, mapper, seed)
    return DataLoader(
        images, batch_sampler=sampler, num_workers=workers, collate_fn=list, pin_memory=False,
        persistent_workers=False,
    )  # fmt: skip


def test_loader(
    records: list[dict[str, Any]], mapper: DatasetMapper, *, batch: int, workers: int
) -> DataLoader:
    """This process' validation images in lists of `batch`."""
    images = TestImages(records, mapper)
    return DataLoader(images, batch_size=batch, num_workers=workers, collate_fn=list)
