"""A folder of images beside a folder of label maps, in an order that can be resumed anywhere.

The sampler names every sample of a run by its position: 0, 1, 2, ... over all epochs and processes.
Which image stands at a position, and what the random augmentations do to it, follow from
(seed, position) alone: not from workers, processes, or where a run was interrupted.
"""

import hashlib
import logging
import os
import random
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmseg.datasets import ADE20KDataset, BaseSegDataset
from mmseg.registry import DATA_SAMPLERS, DATASETS
from numpy.typing import NDArray

from pretrain.checks.findings import refuse_errors
from pretrain.checks.images import IMAGE_SUFFIXES
from transfer.datasets.ade20k_checks import FolderPair, check_ade20k
from transfer.datasets.shapes.levels import CLASS_COUNTS, HARD, segmentation_classes
from transfer.datasets.shapes.scene import PALETTE
from transfer.datasets.share import share_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """A sample of the run: where it stands in the run, and which image it is."""

    position: int
    index: int
    seed: int


@contextmanager
def seeded(seed: int, position: int) -> Iterator[None]:
    """Set the global random states from (seed, position); put the former ones back after."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    words = np.random.SeedSequence([seed, position]).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)  # noqa: NPY002  MMSegmentation's transforms draw from the global state
    torch.manual_seed(int(words[0]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])


@DATA_SAMPLERS.register_module()
class PositionSampler:
    """Yields the positions of this process without end; (seed, epoch) permutes an epoch's images.

    Step k of the run takes the positions [k * total, (k + 1) * total), total = batch_size * world
    size, and a process takes its own consecutive part: the union does not depend on the processes.
    """

    def __init__(self, dataset: Sized, batch_size: int, seed: int | None = None) -> None:
        self.images, self.batch_size = len(dataset), batch_size
        if not self.images:
            raise ValueError("the training set is empty")
        self.seed = 0 if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0  # samples of this process already used

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[Position]:
        count = self.start
        while True:
            step, offset = divmod(count, self.batch_size)
            position = (step * self.world_size + self.rank) * self.batch_size + offset
            epoch, place = divmod(position, self.images)
            yield Position(position, int(self._permutation(epoch)[place]), self.seed)
            count += 1

    def skip(self, samples: int) -> None:
        """Start after `samples` of this process; nothing is read."""
        self.start = samples

    @lru_cache(maxsize=2)  # noqa: B019  the sampler lives as long as the run
    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)


@DATASETS.register_module()
class LabelledImages(BaseSegDataset):
    """Images and label maps of the same name under two folders, searched at any depth.

    `images` and `labels` are relative to `data_root`; `image_suffix` None: the one that is there.
    `share` of the images are used, the first `limit` of them.
    Labels become class indices in labels.py; `reduce_zero_label`: 0 is ignored, k is class k - 1.
    """

    def __init__(
        self,
        data_root: str,
        images: str,
        labels: str,
        classes: Sequence[str],
        image_suffix: str | None = None,
        label_suffix: str = ".png",
        reduce_zero_label: bool = False,
        limit: int | None = None,
        share: float = 1.0,
        palette: Sequence[Sequence[int]] | None = None,
        **more: Any,
    ) -> None:
        self.limit, self.share = limit, share
        metainfo = {"classes": tuple(classes), "palette": list(palette or ())}
        super().__init__(
            img_suffix=image_suffix,
            seg_map_suffix=label_suffix,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix={"img_path": images, "seg_map_path": labels},
            reduce_zero_label=reduce_zero_label,
            **more,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one dict per image, sorted by path."""
        folder = Path(self.data_prefix["img_path"])
        suffix = self.img_suffix or find_suffix(folder)
        labels = Path(self.data_prefix["seg_map_path"])
        pairs = find_pairs(folder, labels, suffix, self.seg_map_suffix, self.share)
        shared = {
            "label_map": None,
            "reduce_zero_label": self.reduce_zero_label,
            "num_classes": len(self._metainfo["classes"]),
        }
        return [
            {
                "img_path": str(image),
                "image_name": str(image.relative_to(folder)).removesuffix(suffix),
                "seg_map_path": str(label),
                "seg_fields": [],
                **shared,
            }
            for image, label in pairs[: self.limit]
        ]

    def __getitem__(self, index: int | Position) -> Any:
        if not isinstance(index, Position):
            return super().__getitem__(index)
        with seeded(index.seed, index.position):
            return self.pipeline(self.get_data_info(index.index))


def find_pairs(
    images: Path, labels: Path, image_suffix: str | None, label_suffix: str, share: float = 1.0
) -> list[tuple[Path, Path]]:
    """Return (image, label) paths of a share of the images, sorted.

    Raises FileNotFoundError for one of them without a label map.
    """
    suffix = image_suffix or find_suffix(images)
    found = sorted(path for path in images.rglob(f"*{suffix}") if path.is_file())
    if not found:
        raise FileNotFoundError(f"no image ends in {suffix} under {images}")
    kept = share_of([image.relative_to(images).as_posix() for image in found], share)
    pairs = []
    for image in (found[place] for place in kept):
        name = image.name.removesuffix(suffix) + label_suffix
        label = labels / image.relative_to(images).with_name(name)
        if not label.is_file():
            raise FileNotFoundError(f"{image} has no label map: there is no {label}")
        pairs.append((image, label))
    return pairs


def names_digest(pairs: Sequence[tuple[Path, Path]], images: Path) -> str:
    """Return a digest of the names of `pairs` below `images`, in their order: the training order.

    The folder itself may move.
    """
    names = "\n".join(image.relative_to(images).as_posix() for image, _ in pairs)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def find_suffix(images: Path) -> str:
    """Return the one image suffix used under a folder.

    FileNotFoundError where there is no folder, ValueError where there are several suffixes or none.
    """
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder {images}")
    found = {p.suffix for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES}
    if not found:
        raise ValueError(f"{images} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(found) > 1:
        listed = ", ".join(sorted(found))
        raise ValueError(f"{images} holds {listed}: give image_suffix, e.g. image_suffix=.jpg")
    return found.pop()


# the embedded dataset by its number of classes of objects
SHAPES = {"shapes": HARD.classes, **{f"shapes{count}": count for count in CLASS_COUNTS}}


def class_names(classes: str | Sequence[str]) -> tuple[tuple[str, ...], list[list[int]] | None]:
    """Return names and palette of a list, of "ade20k" or "shapes", or of a file with a name a line.

    "shapes3", "shapes6" and "shapes9" are the embedded dataset with so many classes of objects,
    "shapes" is the last. ValueError for any other text.
    """
    if not isinstance(classes, str) and len(classes) == 1:
        classes = classes[0]
    if not isinstance(classes, str):
        return tuple(classes), None
    if classes == "ade20k":
        return tuple(ADE20KDataset.METAINFO["classes"]), list(ADE20KDataset.METAINFO["palette"])
    if classes in SHAPES:
        names = segmentation_classes(SHAPES[classes])
        return names, [list(colour) for colour in PALETTE[: len(names)]]
    if not Path(classes).is_file():
        raise ValueError(
            f"classes={classes!r}: give the names as a list, 'ade20k', {', '.join(SHAPES)}, or a "
            "text file with one name a line"
        )
    try:
        lines = Path(classes).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"classes={classes}: not a text file in UTF-8 ({error})") from error
    return tuple(line.strip() for line in lines if line), None


WHOLE_BELOW = 2000  # images in all; larger sets are sampled (tools/check_data.py reads everything)


def folder_pairs(cfg: Any) -> list[FolderPair]:
    """Return the training and evaluation folders of a filled-in config."""
    return [folder_pair(cfg, name) for name in ("train", "val")]


def folder_pair(cfg: Any, name: str) -> FolderPair:
    """Return the folders of `name`, "train" or "val", of a filled-in config."""
    root = Path(cfg["data_root"])
    images, labels = root / cfg[f"{name}_images"], root / cfg[f"{name}_labels"]
    suffix = cfg["image_suffix"] or find_suffix(images)
    share = cfg.get("train_share", 1.0) if name == "train" else 1.0
    return FolderPair(name, images, labels, suffix, cfg["label_suffix"], share)


def pairs_of(split: FolderPair) -> list[tuple[Path, Path]]:
    """Return (image, label) paths of a split; errors as of find_pairs."""
    suffixes = split.image_suffix, split.label_suffix
    return find_pairs(split.images, split.labels, *suffixes, split.share)


def check_data(cfg: Any, names: Sequence[str] = ("train", "val")) -> None:
    """Raise ValueError with the problems found in the folders of `names`, each with its fix."""
    pairs = [folder_pair(cfg, name) for name in names]
    count = sum(1 for pair in pairs for _ in pair.images.rglob(f"*{pair.image_suffix}"))
    findings = check_ade20k(
        pairs,
        classes=cfg["num_classes"],
        zero_is_other=cfg["reduce_zero_label"],
        full=count < WHOLE_BELOW,
    )
    refuse_errors(findings, cfg["allow_findings"])
    for finding in findings:
        logger.warning("%s", finding)
