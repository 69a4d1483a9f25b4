"""A COCO-format split: annotation file and image folder -> Detectron2's records and ground truth.

Category ids need not start at 1 nor be contiguous: the model sees class indices 0..n-1 in the order
of the ids, and predictions are written with the ids of the file. Annotation ids are renumbered from
1, since COCO's evaluation takes an annotation with id 0 for "not matched".
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import BoxMode
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.files.image import BROKEN
from pretrain.run.stop import FailedError, outlive_signals
from transfer.datasets.coco_file import CocoFile, Mask, is_polygon, read_contents
from transfer.datasets.lvis import name_files
from transfer.datasets.share import coco_share

logger = logging.getLogger(__name__)


class Records(Sequence[dict[str, Any]]):
    """Detectron2's standard dataset dicts of the images at `places`, each made when asked for."""

    def __init__(self, file: CocoFile, image_root: Path, places: np.ndarray | None = None) -> None:
        self.file, self.image_root = file, image_root
        self.places = np.arange(len(file.images)) if places is None else places
        self._index_of = {c["id"]: i for i, c in enumerate(file.categories)}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = int(self.places[index])
        image = self.file.images[place]
        name_files([image])
        return {
            "file_name": str(self.image_root / image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [
                _annotation(a, image, self._index_of) for a in self.file.annotations_of(place)
            ],
        }

    @property
    def wide(self) -> list[bool]:
        """Return whether each image is wider than high."""
        return self.file.wide[self.places].tolist()

    def trainable(self) -> "Records":
        """Those with an object that is not a crowd, as Detectron2 filters; ValueError for none."""
        kept = np.intersect1d(self.places, self.file.trainable())
        if not len(kept):
            raise ValueError("no training image has an annotation that is not a crowd")
        return Records(self.file, self.image_root, kept)

    def with_objects(self) -> "Records":
        """Those with an annotation of any kind; all where none has one."""
        counts = self.file.first[1:] - self.file.first[:-1]
        kept = self.places[counts[self.places] > 0]
        return Records(self.file, self.image_root, kept) if len(kept) else self


@dataclass(frozen=True)
class Split:
    """One half of a dataset; class index i of the model is `category_ids[i]` of the file."""

    name: str
    file: CocoFile
    image_root: Path

    @cached_property
    def records(self) -> Records:
        """Return all images, in the order of their ids."""
        return Records(self.file, self.image_root)

    @property
    def json_file(self) -> Path:
        """Return the annotation file."""
        return self.file.path

    @property
    def classes(self) -> list[str]:
        """Their names, in the model's order."""
        return [str(c["name"]) for c in self.file.categories]

    @property
    def category_ids(self) -> list[Any]:
        """Their ids in the file, in the model's order."""
        return [c["id"] for c in self.file.categories]

    @property
    def mask_format(self) -> str:
        """Return "polygon" where every trainable mask is one, else "bitmask" (run-length codes).

        Crowds do not count: Detectron2's mapper drops them.
        """
        codes = self.file.masks[~self.file.crowd] == Mask.RUN_LENGTHS
        return "bitmask" if codes.any() else "polygon"

    @property
    def has_masks(self) -> bool:
        """Return whether every annotation that is not a crowd has a mask."""
        return not (self.file.masks[~self.file.crowd] == Mask.NONE).any()

    def read_ground_truth(self) -> dict[str, Any]:
        """Return the annotation file as it is, annotations numbered from 1 and complete."""
        data = json.loads(self.json_file.read_bytes())
        name_files(data["images"])
        for number, annotation in enumerate(data["annotations"], start=1):
            annotation["id"] = number
            annotation.setdefault("iscrowd", 0)
            annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
        return data


def read_split(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    file: CocoFile | None = None,
    *,
    share: float = 1.0,
) -> Split:
    """Read a share of an annotation file, unless it is given; errors as of datasets.coco_file."""
    if file is None:
        file = coco_share(read_contents(Path(json_file)), share).packed()
    broken = int((file.masks == Mask.BROKEN).sum())
    if broken:
        logger.info("%s: %d objects without a polygon of three points left out", json_file, broken)
    return Split(name, file, Path(image_root))


def require_same_classes(train: Split, val: Split) -> None:
    """ValueError where the two splits' categories differ."""
    if (train.classes, train.category_ids) != (val.classes, val.category_ids):
        raise ValueError(
            f"{train.json_file} and {val.json_file} list different categories: "
            f"{dict(zip(train.category_ids, train.classes, strict=True))} and "
            f"{dict(zip(val.category_ids, val.classes, strict=True))}"
        )


def register(split: Split) -> None:
    """Make the split known to Detectron2's catalogs, for its visualizers and tools."""
    if split.name in DatasetCatalog:
        DatasetCatalog.remove(split.name)
        MetadataCatalog.remove(split.name)
    DatasetCatalog.register(split.name, lambda: split.records)
    MetadataCatalog.get(split.name).set(
        thing_classes=split.classes,
        thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(split.category_ids)},
        json_file=str(split.json_file),
        image_root=str(split.image_root),
        evaluator_type="coco",
    )


def _annotation(
    annotation: dict[str, Any], image: dict[str, Any], index_of: dict[int, int]
) -> dict[str, Any]:
    plain = {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": index_of[annotation["category_id"]],
        "iscrowd": annotation.get("iscrowd", 0),
    }
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        if isinstance(mask["counts"], list):
            mask = mask_api.frPyObjects(mask, image["height"], image["width"])
        plain["segmentation"] = mask
    elif mask:
        plain["segmentation"] = [p for p in mask if is_polygon(p)]
    return plain


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


def step_indices(wide: Sequence[bool], size: int, seed: int, count: int, step: int) -> list[int]:
    """Return the records of the `count` micro-batches of a step, over all processes."""
    stream = islice(micro_batches(wide, size, seed), step * count, (step + 1) * count)
    return [index for batch in stream for _, index in batch]


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

    def __init__(self, records: Records, mapper: DatasetMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        place, index = draw
        before = np.random.get_state()  # noqa: NPY002 - Detectron2 draws from the global generator
        np.random.seed(np.random.SeedSequence((self.seed, place)).generate_state(4))  # noqa: NPY002
        try:
            return mapped(self.mapper, self.records[index])
        finally:
            np.random.set_state(before)  # noqa: NPY002


def mapped(mapper: DatasetMapper, record: dict[str, Any]) -> dict[str, Any]:
    """Return the mapped record. Raises FailedError for an image that cannot be read."""
    try:
        return mapper(record)
    except (*BROKEN, SizeMismatchError) as error:
        raise FailedError(
            f"{record['file_name']}: {error}. tools/check_data.py coco names every such image; "
            "once they are mended, --resume goes on"
        ) from error


class TestImages(Dataset):
    """Every `processes`-th record, mapped."""

    def __init__(self, records: Records, mapper: DatasetMapper) -> None:
        self.records, self.mapper = records, mapper
        self.places = range(comm.get_rank(), len(records), comm.get_world_size())

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return mapped(self.mapper, self.records[self.places[index]])


def train_loader(
    records: Records,
    mapper: DatasetMapper,
    *,
    micro_batch: int,
    accumulate: int,
    seed: int,
    start_step: int,
    workers: int,
) -> DataLoader:
    """Endless lists of `micro_batch` mapped records, `accumulate` of them a step."""
    sampler = MicroBatchSampler(
        records.wide, micro_batch, seed=seed, accumulate=accumulate, start_step=start_step
    )
    images = TrainImages(records, mapper, seed)
    return DataLoader(
        images,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=outlive_signals,
    )


def test_loader(records: Records, mapper: DatasetMapper, *, batch: int, workers: int) -> DataLoader:
    """This process' validation images in lists of `batch`."""
    images = TestImages(records, mapper)
    return DataLoader(
        images,
        batch_size=batch,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=outlive_signals,
    )
