"""Made-up data of the real thing's size, cheap to make: images by hard links, shards, COCO JSON."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FILES = 64  # different images; a file system allows 32,000 links or more to each
SHARDS = 16  # different shards
SMALL_PX = 32  # side of an image inside a shard, and of a small file
CLASSES = 80  # COCO's


def jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    """Return a smooth random JPEG, about as large in bytes as a photo of that size."""
    coarse = rng.integers(0, 255, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_files(root: Path, images: int, folders: int, width: int, height: int) -> Path:
    """Write `images` files in class folders, named as ImageNet's, by links to 64 different ones."""
    rng = np.random.default_rng(0)
    sources = []
    (root / "sources").mkdir(parents=True)
    for i in range(min(FILES, images)):
        sources.append(root / "sources" / f"{i}.jpg")
        sources[-1].write_bytes(jpeg(rng, width, height))
    for folder in range(folders):
        (root / "train" / f"n{folder:08}").mkdir(parents=True)
    for i in range(images):
        name = f"n{i % folders:08}/n{i % folders:08}_{i // folders}.JPEG"
        os.link(sources[i % len(sources)], root / "train" / name)
    return root / "train"


def write_shards(root: Path, images: int, shards: int) -> Path:
    """Write `images` in `shards` tar files, which are links to 16 different ones."""
    rng = np.random.default_rng(0)
    data = [jpeg(rng, SMALL_PX, SMALL_PX) for _ in range(FILES)]
    each = images // shards
    (root / "shards").mkdir(parents=True)
    for shard in range(shards):
        path, source = root / "shards" / f"train-{shard:05}.tar", shard % SHARDS
        if shard >= SHARDS:
            os.link(root / "shards" / f"train-{source:05}.tar", path)
            continue
        with tarfile.open(path, "w") as archive:
            for i in range(each):
                member = tarfile.TarInfo(f"{shard:05}_{i:06}.jpg")
                content = data[i % len(data)]
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return root / "shards"


def write_coco(path: Path, images: int, instances: int) -> Path:
    """Write instances in COCO's format with polygons as long as COCO's, 23 points on average."""
    rng = np.random.default_rng(0)
    categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]
    with path.open("w") as file:
        file.write('{"categories": ' + json.dumps(categories) + ', "images": [')
        for i in range(images):
            image = {"id": i, "file_name": f"{i:012}.jpg", "width": 640, "height": 480}
            file.write(("," if i else "") + json.dumps(image))
        file.write('], "annotations": [')
        for i, annotation in enumerate(_annotations(rng, images, instances)):
            file.write(("," if i else "") + json.dumps(annotation))
        file.write("]}")
    return path


def _annotations(rng: np.random.Generator, images: int, instances: int) -> Iterator[dict[str, Any]]:
    for i in range(instances):
        x, y, w, h = (rng.random(4) * (320, 240, 300, 220) + (0, 0, 4, 4)).tolist()
        around = np.linspace(0, 2 * np.pi, int(rng.integers(6, 41)), endpoint=False)
        points = np.stack([x + w / 2 * (1 + np.cos(around)), y + h / 2 * (1 + np.sin(around))], 1)
        yield {
            "id": i + 1,
            "image_id": int(rng.integers(images)),
            "category_id": int(rng.integers(1, CLASSES + 1)),
            "bbox": [round(v, 2) for v in (x, y, w, h)],
            "area": round(w * h, 2),
            "iscrowd": 0,
            "segmentation": [points.round(2).ravel().tolist()],
        }
