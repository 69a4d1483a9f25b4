"""Made-up data in the form of the real thing: what files look like there, small and few.

ImageNet, COCO 2017, LVIS v1 and ADE20K as they are unpacked. Names, formats, oddities and layouts
are theirs; what the images show is coloured polygons on noise.
"""

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

ImageForm = Literal["class folders", "flat folder", "list", "shards"]
IMAGE_FORMS: tuple[ImageForm, ...] = ("class folders", "flat folder", "list", "shards")
SHARD_IMAGES = 16
CONTENTS = 24  # different images; more are the same ones again
EXIF_ORIENTATION, QUARTER_TURN = 0x0112, 6
# after the end marker, as cameras and editors leave it there
LEFT_OVER = b"\0" * 700 + b"edited"
# COCO's 80 categories are numbered up to 90
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [i for i in range(1, 91) if i not in COCO_GAPS]
LVIS_IDS = list(range(1, 1204))
SIDES_PX = (300, 640)  # of COCO's images: the longer side is 640
ADE20K_SIZES = ((683, 512), (256, 256), (400, 300), (512, 683), (500, 375))  # width, height


def draw(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return an RGB image of noise in large blots."""
    coarse = rng.integers(0, 255, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def image_bytes(number: int) -> bytes:
    """Return a file as it occurs in ImageNet; `number` decides which oddity it has."""
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(75, 501, 2))
    image, options = draw(rng, width, height), {}
    kind = number % 8
    if kind == 1:
        image = image.convert("L")
    elif kind == 2:
        image = image.convert("CMYK")
    elif kind == 4:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = QUARTER_TURN
        options = {"exif": exif}
    stream = io.BytesIO()
    image.save(stream, "png" if kind == 3 else "jpeg", **options)
    return stream.getvalue() + (LEFT_OVER if kind == 5 else b"")


def make_images(root: Path, form: ImageForm, count: int) -> Path:
    """Write `count` images to pretrain on below `root`; return what to give as --data."""
    contents = [image_bytes(number) for number in range(min(count, CONTENTS))]
    if form == "shards":
        return _shards(root / "shards", contents, count)
    folder = root / form.replace(" ", "_")
    names = [_image_name(number, form) for number in range(count)]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < CONTENTS:
            path.write_bytes(contents[number])
        else:
            os.link(folder / names[number % CONTENTS], path)
    if form != "list":
        return folder
    listed = root / "list.txt"
    listed.write_text("".join(f"{folder.name}/{name}\n" for name in names))
    return listed


def make_classes(root: Path, counts: Mapping[str, int]) -> Path:
    """Write so many images of each split as ImageNet has them, SPLIT/SYNSET/IMAGE; return root."""
    for seed, (split, count) in enumerate(counts.items()):
        for number in range(count):
            path = root / split / _image_name(number + 1000 * seed, "class folders")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(number + 1000 * seed))
    return root


def _image_name(number: int, form: ImageForm) -> str:
    synset = f"n{1440764 + 13 * (number % 5):08}"  # a class folder of ImageNet
    name = f"{synset}_{number}.JPEG"
    return f"{synset}/{name}" if form == "class folders" else name


def _shards(folder: Path, contents: Sequence[bytes], count: int) -> Path:
    """Write tar files in webdataset's form: beside each image a file with its class."""
    folder.mkdir(parents=True)
    for first in range(0, count, SHARD_IMAGES):
        with tarfile.open(folder / f"shard-{first // SHARD_IMAGES:06}.tar", "w") as shard:
            for number in range(first, min(first + SHARD_IMAGES, count)):
                _add(shard, f"{number:08}.jpg", contents[number % len(contents)])
                _add(shard, f"{number:08}.cls", str(number % 5).encode())
    return folder


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


@dataclass(frozen=True)
class Instances:
    """The files of a detection data set."""

    train_json: Path
    train_images: Path
    val_json: Path
    val_images: Path


def make_instances(root: Path, kind: Literal["coco", "lvis"], train: int, val: int) -> Instances:
    """Write `train` and `val` images with instances, as COCO 2017 or LVIS v1 lie on a disk."""
    folders, files = {}, {}
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        images = root / "coco" / f"{split}2017"
        content = _instances(images, kind, count, seed)
        name = f"instances_{split}2017" if kind == "coco" else f"lvis_v1_{split}"
        files[split] = root / (
            f"coco/annotations/{name}.json" if kind == "coco" else f"lvis/{name}.json"
        )
        files[split].parent.mkdir(parents=True, exist_ok=True)
        files[split].write_text(json.dumps(content))
        folders[split] = images if kind == "coco" else images.parent
    return Instances(files["train"], folders["train"], files["val"], folders["val"])


def _instances(folder: Path, kind: str, count: int, seed: int) -> dict[str, Any]:
    """Write images; return their annotation file's content. The last image shows nothing."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = COCO_IDS if kind == "coco" else LVIS_IDS
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        size = _coco_size(rng)
        name = f"{9 + 37 * number + 10_000 * seed:012}.jpg"
        record = {"id": 9 + 37 * number, "width": size[0], "height": size[1]}
        image = draw(rng, *size)
        empty = number == count - 1 and count > 1
        found = [] if empty else _objects(rng, image, ids, crowd=kind == "coco" and number == 0)
        for annotation in found:
            number_of_all = 900_000 + 7 * len(annotations)
            annotations.append({**annotation, "id": number_of_all, "image_id": record["id"]})
        images.append(record | _image_record(kind, folder.name, name, found, ids))
        grayscale = number == 1 or count == 1
        (image.convert("L") if grayscale else image).save(folder / name, quality=90)
    if kind == "lvis":
        for annotation in annotations:
            del annotation["iscrowd"]
    return {"images": images, "annotations": annotations, "categories": _categories(kind, ids)}


def _coco_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return width and height in pixels; one of them is 640."""
    short, long = int(rng.integers(SIDES_PX[0], SIDES_PX[1])), SIDES_PX[1]
    return (long, short) if rng.random() < 0.7 else (short, long)


def _image_record(
    kind: str, folder: str, name: str, found: Sequence[dict[str, Any]], ids: Sequence[int]
) -> dict[str, Any]:
    if kind == "coco":
        return {"file_name": name, "license": 3, "date_captured": "2013-11-15 02:41:42"}
    present = {annotation["category_id"] for annotation in found}
    absent = [i for i in ids[::400] if i not in present]
    return {
        "coco_url": f"http://images.cocodataset.org/{folder}/{name}",
        "neg_category_ids": absent,
        "not_exhaustive_category_ids": sorted(present)[:1],
    }


def _categories(kind: str, ids: Sequence[int]) -> list[dict[str, Any]]:
    if kind == "coco":
        return [{"id": i, "name": f"category {i}", "supercategory": "thing"} for i in ids]
    frequencies = "rcf"
    return [
        {
            "id": i,
            "name": f"category_{i}",
            "synset": f"category_{i}.n.01",
            "frequency": frequencies[i % 3],
            "image_count": 10 ** (i % 3),
            "instance_count": 10 ** (i % 3),
        }
        for i in ids
    ]


def _objects(
    rng: np.random.Generator, image: Image.Image, ids: Sequence[int], *, crowd: bool
) -> list[dict[str, Any]]:
    """Draw a whole object, one in two parts and a tiny one; return them with a crowd, if asked."""
    found = []
    for parts, radius in ((1, rng.uniform(40, 90)), (2, rng.uniform(30, 60)), (1, 2.0)):
        centre = rng.uniform(0.25, 0.75, 2) * image.size
        polygons = [
            _outline(rng, centre + np.array([2.2 * radius * part, 0]), radius, image.size)
            for part in range(parts)
        ]
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        for polygon in polygons:
            ImageDraw.Draw(image).polygon(list(map(tuple, polygon)), fill=colour)
        found.append(_annotation(polygons, int(rng.choice(ids[:5]))))
    return [*found, _crowd(image.size, ids[0])] if crowd else found


def _outline(
    rng: np.random.Generator, centre: np.ndarray, radius: float, size: tuple[int, int]
) -> np.ndarray:
    """Return (12, 2) corners x, y in pixels, to two decimals and within the image."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    reach = radius * rng.uniform(0.6, 1, (12, 1))
    corners = centre + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.round(np.clip(corners, 0, np.asarray(size) - 1), 2)


def _annotation(polygons: Sequence[np.ndarray], category: int) -> dict[str, Any]:
    corners = np.concatenate(polygons)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return {
        "category_id": category,
        "segmentation": [polygon.ravel().tolist() for polygon in polygons],
        "bbox": [round(float(v), 2) for v in (left, top, right - left, bottom - top)],
        "area": round(sum(map(_area, polygons)), 4),
        "iscrowd": 0,
    }


def _area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _crowd(size: tuple[int, int], category: int) -> dict[str, Any]:
    """Return a crowd of whole columns, as COCO has it: run lengths as plain numbers."""
    width, height = size
    first, columns = width // 8, width // 4
    counts = [first * height, columns * height, (width - first - columns) * height]
    return {
        "category_id": category,
        "segmentation": {"size": [height, width], "counts": counts},
        "bbox": [first, 0, columns, height],
        "area": columns * height,
        "iscrowd": 1,
    }


@dataclass(frozen=True)
class LabelFolders:
    """Where a segmentation config looks for its data, below its root, and what the labels are."""

    images: tuple[str, str]  # training, evaluation
    labels: tuple[str, str]
    image_suffix: str
    label_suffix: str
    values: int  # labels are below this


def make_label_maps(
    root: Path, folders: LabelFolders, train: int, val: int, shrink: int = 1
) -> Path:
    """Write images of mixed sizes with label maps as ADE20K has them; return the root.

    Sides are divided by `shrink`: the logits of 150 classes take long at the size of the files.
    """
    for seed, count in enumerate((train, val)):
        rng = np.random.default_rng(seed)
        images, labels = root / folders.images[seed], root / folders.labels[seed]
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        split = ("train", "val")[seed]
        for number in range(count):
            name = f"ADE_{split}_{number + 1:08}"
            width, height = ADE20K_SIZES[number % len(ADE20K_SIZES)]
            size = (width // shrink, height // shrink)
            draw(rng, *size).save(images / f"{name}{folders.image_suffix}")
            blocks = rng.integers(0, folders.values, (4, 6), dtype=np.uint8)
            blocks.ravel()[:2] = (0, folders.values - 1)
            shown = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
            shown.save(labels / f"{name}{folders.label_suffix}")
    return root
