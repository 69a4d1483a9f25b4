"""A share of the training images: the same on every machine, a small one within a larger."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from dataclasses import replace

from transfer.datasets.coco_file import Contents, Mask


def share_of(names: Sequence[str], share: float) -> list[int]:
    """Return the places of round(share x n) of n names, at least one, in their order.

    They are those of the lowest SHA-256, so that a smaller share is a part of a larger one.
    """
    if share == 1:
        return list(range(len(names)))
    count = max(1, round(share * len(names)))
    digests = [hashlib.sha256(os.fsencode(name)).digest() for name in names]
    return sorted(sorted(range(len(names)), key=digests.__getitem__)[:count])


def coco_share(contents: Contents, share: float) -> Contents:
    """Return a share of the images that have an object to train on, with their annotations.

    Annotations of unknown images are kept, so that they are found. A file without such an image, or
    with ids that cannot be used, is returned as it is: its own error names it.
    """
    if share == 1 or contents.id_problems():
        return contents
    objects = zip(contents.image_ids, contents.crowd, contents.masks, strict=True)
    used = {image for image, crowd, mask in objects if not crowd and mask != Mask.BROKEN}
    ids = [image["id"] for image in contents.images]
    usable = [n for n, image in enumerate(ids) if image in used]
    if not usable:
        return contents
    chosen = share_of([contents.images[n]["file_name"] for n in usable], share)
    kept = [usable[i] for i in chosen]
    left_out = set(ids) - {ids[n] for n in kept}
    annotations = [n for n, image in enumerate(contents.image_ids) if image not in left_out]
    return _taken(contents, kept, annotations)


def _taken(contents: Contents, images: list[int], annotations: list[int]) -> Contents:
    """Return the images and annotations of these numbers."""
    place = {n: i for i, n in enumerate(annotations)}
    return replace(
        contents,
        images=[contents.images[n] for n in images],
        ids=[contents.ids[n] for n in annotations],
        without_id=[place[n] for n in contents.without_id if n in place],
        image_ids=[contents.image_ids[n] for n in annotations],
        category_ids=[contents.category_ids[n] for n in annotations],
        without_box=[place[n] for n in contents.without_box if n in place],
        crowd=bytearray(contents.crowd[n] for n in annotations),
        masks=bytearray(contents.masks[n] for n in annotations),
        image_places=_pairs(contents.image_places, images),
        places=_pairs(contents.places, annotations),
    )


def _pairs(places: array, numbers: list[int]) -> array:
    return array("q", (places[2 * n + k] for n in numbers for k in (0, 1)))
