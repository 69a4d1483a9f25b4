"""The classes of images in tar shards: NAME.cls beside NAME.jpg, or the folder of the member."""

import os
import tarfile
from functools import partial
from pathlib import Path

from pretrain.checks.parallel import parallel_map
from pretrain.data.shards import PROGRESS_FROM, Shards
from transfer.datasets.class_labels import Labels, by_number

LABEL = ".cls"
MOST_BYTES = 1024  # of a class


def labels_in_shards(images: Shards, workers: int) -> Labels:
    """Return the label of each image, (n,) int64, and the classes.

    Classes that are numbers are taken as such. Raises ValueError for an image without a class.
    """
    shards = [os.fsdecode(name) for name in images.shards]
    progress = "reading classes" if len(shards) >= PROGRESS_FROM else None
    read = partial(_labels_of_shard, images.root)
    found = list(parallel_map(read, shards, workers=workers, progress=progress, pool_from=2))
    labels = []
    for i in range(len(images)):
        member = os.fsdecode(images.names[i])
        stem, folder = _stem(member), os.path.dirname(member)  # noqa: PTH120 - a name in a tar
        label = found[int(images.shard[i])].get(stem) or folder.rpartition("/")[2]
        if not label:
            raise ValueError(
                f"{images.name(i)} has no class: expected {stem}{LABEL} beside it, or a folder"
            )
        labels.append(label)
    return by_number(labels)


def _labels_of_shard(root: Path, shard: str) -> dict[str, str]:
    """Return the classes in one shard by the members' names without their ending."""
    labels = {}
    with tarfile.open(root / shard, "r:") as archive:
        for member in archive:
            if member.name.endswith(LABEL) and member.isfile() and member.size <= MOST_BYTES:
                content = archive.extractfile(member)
                assert content is not None
                labels[_stem(member.name)] = content.read().decode().strip()
            archive.members = []  # type: ignore[attr-defined] # or it keeps 2 KB of each
    return labels


def _stem(member: str) -> str:
    """Return a member's name up to the first dot of its last part, as webdataset groups them."""
    folder, slash, name = member.rpartition("/")
    return folder + slash + name.partition(".")[0]
