"""The data order depends on the seed and the step, and on nothing else."""

import json
from itertools import islice
from pathlib import Path

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.utils import comm

from transfer.detection.data import (
    MicroBatchSampler,
    micro_batches,
    read_split,
    train_loader,
)

WIDE = [True, False, True, True, False, True, True]


def take(count: int, *, accumulate: int = 1, start: int = 0, size: int = 2) -> list:
    sampler = MicroBatchSampler(WIDE, size, seed=3, accumulate=accumulate, start_step=start)
    return list(islice(iter(sampler), count))


def test_every_epoch_shows_every_image_once() -> None:
    drawn = [d for batch in islice(micro_batches([True] * 6, 3, seed=0), 4) for d in batch]
    assert [place for place, _ in drawn] == list(range(12))
    assert sorted(i for _, i in drawn[:6]) == sorted(i for _, i in drawn[6:]) == list(range(6))
    assert [i for _, i in drawn[:6]] != [i for _, i in drawn[6:]]


def test_wide_and_tall_images_share_no_batch() -> None:
    for batch in take(20):
        assert len({WIDE[index] for _, index in batch}) == 1


def test_a_resumed_run_goes_on_where_it_stopped() -> None:
    assert take(12, accumulate=2)[6:] == take(6, accumulate=2, start=3)


def test_two_processes_share_what_one_accumulates(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = take(8, accumulate=2)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shares.append(take(4))
    assert alone == [batch for pair in zip(*shares, strict=True) for batch in pair]


def test_augmentation_does_not_depend_on_workers(coco_data: dict[str, str]) -> None:
    split = read_split("train", coco_data["data.train_json"], coco_data["data.train_images"])
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.RandomFlip(), T.RandomBrightness(0.5, 1.5)],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )

    def pixels(workers: int, start: int, count: int) -> list[torch.Tensor]:
        loader = train_loader(
            split.records,
            mapper,
            micro_batch=2,
            accumulate=1,
            seed=5,
            start_step=start,
            workers=workers,
        )
        np.random.seed(workers)  # noqa: NPY002 - what others draw must not matter
        return [image["image"] for batch in islice(iter(loader), count) for image in batch]

    alone = pixels(0, 0, 4)
    assert all(torch.equal(a, b) for a, b in zip(alone, pixels(2, 0, 4), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], pixels(0, 2, 2), strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_images_without_objects_are_left_out(coco_data: dict[str, str], tmp_path: Path) -> None:
    data = json.loads(Path(coco_data["data.train_json"]).read_text())
    images = [image["id"] for image in data["images"]][:3]
    kept = [a for a in data["annotations"] if a["image_id"] in images[1:]]
    for annotation in kept:
        annotation["iscrowd"] = int(annotation["image_id"] == images[1])
    path = tmp_path / "train.json"
    path.write_text(json.dumps({**data, "annotations": kept}))
    split = read_split("train", path, coco_data["data.train_images"])
    assert [r["image_id"] for r in split.records.trainable()] == images[2:]
    assert [r["image_id"] for r in split.records.with_objects()] == images[1:]
    path.write_text(json.dumps({**data, "annotations": []}))
    with pytest.raises(ValueError, match="no training image"):
        read_split("train", path, coco_data["data.train_images"]).records.trainable()
