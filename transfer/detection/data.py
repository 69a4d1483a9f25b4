"""A COCO-format split: annotation file and image folder -> Detectron2's records and ground truth.

Category ids need not start at 1 nor be contiguous: the model sees class indices 0..n-1 in the order
of the ids, and predictions are written with the ids of the file. Annotation ids are renumbered from
1, since COCO's evaluation takes an annotation with id 0 for "not matched".
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from transfer.datasets.ids import id_problem
from transfer.datasets.lvis import name_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """One half of a dataset; class index i of the model is `category_ids[i]` of the file."""

    name: str
    json_file: Path
    image_root: Path
    records: list[dict[str, Any]]  # Detectron2's standard dataset dicts, in order of image id
    classes: list[str]
    category_ids: list[int]
    ground_truth: dict[str, Any]  # COCO format: ids of the file, annotations numbered from 1

    @property
    def mask_format(self) -> str:
        """Return "polygon" where every trainable mask is one, else "bitmask" (run-length codes).

        Crowds do not count: Detectron2's mapper drops them.
        """
        trained = (a for r in self.records for a in r["annotations"] if not a["iscrowd"])
        codes = any(isinstance(a.get("segmentation"), dict) for a in trained)
        return "bitmask" if codes else "polygon"

    @property
    def has_masks(self) -> bool:
        """Whether every annotation that is not a crowd has a mask."""
        wanted = (a for r in self.records for a in r["annotations"] if not a["iscrowd"])
        return all("segmentation" in a for a in wanted)


def read_split(name: str, json_file: str | Path, image_root: str | Path) -> Split:
    """Read an annotation file; FileNotFoundError or ValueError say what is wrong with it."""
    json_file, image_root = Path(json_file), Path(image_root)
    data = _read_json(json_file)
    categories = sorted(data["categories"], key=lambda c: c["id"])
    index_of = {c["id"]: i for i, c in enumerate(categories)}
    if not index_of or len(index_of) != len(categories):
        raise ValueError(f"{json_file}: category ids are missing or not unique")
    _complete(data["annotations"], json_file)
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        if annotation["image_id"] not in by_image:
            raise ValueError(
                f"{json_file}: an annotation names image {annotation['image_id']!r}, which is not "
                "among the file's images"
            )
        if annotation["category_id"] not in index_of:
            raise ValueError(
                f"{json_file}: an annotation of image {annotation['image_id']} has category "
                f"{annotation['category_id']!r}; the file's categories are {sorted(index_of)}"
            )
        by_image[annotation["image_id"]].append(annotation)
    records = [
        _record(image, by_image[image["id"]], image_root, index_of)
        for image in sorted(data["images"], key=lambda i: i["id"])
    ]
    classes = [str(c["name"]) for c in categories]
    return Split(name, json_file, image_root, records, classes, list(index_of), data)


def read_pair(data: Any) -> tuple[Split, Split]:
    """The training and validation split that a config's `data` names; their classes must agree."""
    train = read_split(f"{data['name']}_train", data["train_json"], data["train_images"])
    val = read_split(f"{data['name']}_val", data["val_json"], data["val_images"])
    if (train.classes, train.category_ids) != (val.classes, val.category_ids):
        raise ValueError(
            f"{train.json_file} and {val.json_file} list different categories: "
            f"{dict(zip(train.category_ids, train.classes, strict=True))} and "
            f"{dict(zip(val.category_ids, val.classes, strict=True))}"
        )
    return train, val


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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}")
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not readable JSON ({error})") from error
    missing = [k for k in ("images", "annotations", "categories") if k not in data]
    if missing:
        raise ValueError(f"{path}: not a COCO instances file: {', '.join(missing)} missing")
    _refuse_ids(data, path)
    name_files(data["images"])
    return data


def _refuse_ids(data: dict[str, Any], path: Path) -> None:
    for name, key in (
        ("images", "id"), ("categories", "id"), ("annotations", "image_id"),
        ("annotations", "category_id"),
    ):  # fmt: skip
        problem = id_problem([record[key] for record in data[name]])
        if problem:
            raise ValueError(
                f"{path}: {key} of {name}: {problem}; number them, COCO's ids are integers"
            )


def _complete(annotations: list[dict[str, Any]], path: Path) -> None:
    """Number the annotations from 1; fill in what the format leaves open (crowd, area)."""
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
        annotation.setdefault("iscrowd", 0)
        if len(annotation.get("bbox", ())) != 4:
            raise ValueError(f"{path}: an annotation of image {annotation['image_id']} has no bbox")
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])


def _record(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    image_root: Path,
    index_of: dict[int, int],
) -> dict[str, Any]:
    return {
        "file_name": str(image_root / image["file_name"]),
        "height": image["height"],
        "width": image["width"],
        "image_id": image["id"],
        "annotations": [_annotation(a, image, index_of) for a in annotations],
    }


def _annotation(
    annotation: dict[str, Any], image: dict[str, Any], index_of: dict[int, int]
) -> dict[str, Any]:
    plain = {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": index_of[annotation["category_id"]],
        "iscrowd": annotation["iscrowd"],
    }
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        if isinstance(mask["counts"], list):
            mask = mask_api.frPyObjects(mask, image["height"], image["width"])
        plain["segmentation"] = mask
    elif mask:
        plain["segmentation"] = [p for p in mask if len(p) >= 6 and len(p) % 2 == 0]
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
