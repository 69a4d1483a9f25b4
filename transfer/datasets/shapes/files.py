"""Writes the embedded dataset atomically in the standard layouts.

DIR/coco/annotations/instances_{train,val}2017.json, DIR/coco/{train,val}2017/
DIR/ADEChallengeData2016/{images,annotations}/{training,validation}/, classes.txt
DIR/unlabelled/
DIR/shapes.json            what was asked for
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from pretrain.checks.parallel import parallel_map
from pretrain.run.sheet import contact_sheet
from transfer.datasets.shapes.levels import LEVELS, STUFF_CLASSES, Level, segmentation_classes
from transfer.datasets.shapes.scene import PALETTE, Scene, draw_scene

MARKER = "shapes.json"
VERSION = 2  # of the drawing rules: a folder of another version is not taken for this one
JPEG_QUALITY = 95
ADE_NAMES = {"train": "training", "val": "validation"}
Rgb = NDArray[np.uint8]
Record = dict[str, Any]


@dataclass(frozen=True)
class ShapesSettings:
    """How many images of each kind, how they look, and the seed.

    image_size is the side in pixels before enlargement. `zoom` enlarges scenes: objects and
    textures grow beside the patches that pretraining masks. `classes` of objects; None: the
    level's.
    """

    unlabelled: int = 3000
    train: int = 300
    val: int = 100
    image_size: int = 128
    zoom: float = 1.0
    level: str = "easy"  # of LEVELS
    classes: int | None = None
    seed: int = 0
    version: int = VERSION

    @property
    def side(self) -> int:
        """Pixels along the side of the images that are written."""
        return round(self.image_size * self.zoom)

    @property
    def rules(self) -> Level:
        """Return what the level draws. Raises ValueError for an unknown level or count."""
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.level!r}")
        level = LEVELS[self.level]
        return level if self.classes is None else replace(level, classes=self.classes)

    def draw(self, split: str, index: int) -> Scene:
        """Draw image `index` of `split`."""
        return draw_scene(self.seed, split, index, self.side, self.rules)


# what is written for a purpose; single arguments change it
PURPOSES = {
    "demo": ShapesSettings(unlabelled=2000),
    "benchmark": ShapesSettings(unlabelled=10_000, val=200, zoom=2.0),
}


def make_shapes(
    folder: Path, settings: ShapesSettings, *, workers: int = 1, progress: bool = False
) -> bool:
    """Write the dataset to `folder`; return False if it exists with the same settings.

    A killed run leaves `folder` untouched, and the next one starts again. Raises ValueError if
    `folder` holds anything else.
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):  # falls with the process
        if _is_made(folder, settings):
            return False
        prefix = f".{folder.name}.partial-"
        for stale in folder.parent.glob(f"{prefix}*"):  # of a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        unfinished.chmod(0o755)
        _write(unfinished, settings, workers, progress)
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    return True


def _is_made(folder: Path, settings: ShapesSettings) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = folder / MARKER
    if not marker.is_file():
        raise ValueError(f"{folder} holds something else: give --out a new or empty folder")
    found = json.loads(marker.read_text())
    if found != asdict(settings):
        raise ValueError(
            f"{folder} was made with {found}, asked for {asdict(settings)}: give --out another "
            "folder, or delete this one"
        )
    return True


def _write(folder: Path, settings: ShapesSettings, workers: int, progress: bool) -> None:
    for below in ("coco/annotations", "coco/train2017", "coco/val2017", "unlabelled"):
        (folder / below).mkdir(parents=True)
    ade = folder / "ADEChallengeData2016"
    for kind in ("images", "annotations"):
        for name in ADE_NAMES.values():
            (ade / kind / name).mkdir(parents=True)
    names = segmentation_classes(settings.rules.classes)
    (ade / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    counts = {"unlabelled": settings.unlabelled, "train": settings.train, "val": settings.val}
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    write = partial(_write_scene, folder=folder, settings=settings)
    title = "shapes" if progress else None
    records = list(parallel_map(write, jobs, workers=workers, progress=title))
    for split in ADE_NAMES:
        chosen = [r for (name, _), r in zip(jobs, records, strict=True) if name == split]
        path = folder / "coco" / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(_coco(split, chosen, settings)))
    (folder / MARKER).write_text(json.dumps(asdict(settings), indent=1) + "\n")


def _write_scene(job: tuple[str, int], folder: Path, settings: ShapesSettings) -> list[Record]:
    """Draw and write one image; returns its instances as COCO annotations without ids."""
    split, index = job
    scene = settings.draw(split, index)
    if split == "unlabelled":
        _save_jpeg(scene.image, folder / "unlabelled" / f"{index + 1:08d}.jpg")
        return []
    _save_jpeg(scene.image, folder / "coco" / f"{split}2017" / f"{index + 1:012d}.jpg")
    ade, name = folder / "ADEChallengeData2016", f"shapes_{split}_{index + 1:08d}"
    _save_jpeg(scene.image, ade / "images" / ADE_NAMES[split] / f"{name}.jpg")
    Image.fromarray(scene.labels).save(ade / "annotations" / ADE_NAMES[split] / f"{name}.png")
    return [_annotation(i.category, i.mask, index + 1) for i in scene.instances]


def _save_jpeg(image: Rgb, path: Path) -> None:
    Image.fromarray(image).save(path, quality=JPEG_QUALITY, subsampling=0)


def _annotation(category: int, mask: NDArray[np.bool_], image_id: int) -> Record:
    run_lengths = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "image_id": image_id,
        "category_id": category + 1,
        "bbox": [float(side) for side in coco_mask.toBbox(run_lengths)],
        "area": float(mask.sum()),
        "iscrowd": 0,
        "segmentation": {
            "size": list(mask.shape),
            "counts": run_lengths["counts"].decode("ascii"),
        },
    }


def _coco(split: str, records: list[list[Record]], settings: ShapesSettings) -> Record:
    side = settings.side
    annotations = [annotation for image in records for annotation in image]
    return {
        "info": {"description": f"mim-transfer shapes, {split}", **asdict(settings)},
        "licenses": [],
        "images": [
            {"id": i + 1, "file_name": f"{i + 1:012d}.jpg", "width": side, "height": side}
            for i in range(len(records))
        ],
        "categories": [
            {"id": i + 1, "name": name, "supercategory": name.split(" ")[-1]}
            for i, name in enumerate(settings.rules.things)
        ],
        "annotations": [{"id": i + 1, **record} for i, record in enumerate(annotations)],
    }


def draw_picture(path: Path, settings: ShapesSettings, columns: int = 8) -> None:
    """Draw the first training images: as they are, with instances, and with label maps."""
    scenes = [settings.draw("train", i) for i in range(columns)]
    colors = np.array([(0, 0, 0), *PALETTE], np.uint8)
    rows = [
        [scene.image for scene in scenes],
        [_overlay(scene) for scene in scenes],
        [colors[scene.labels] for scene in scenes],
    ]
    sheet = contact_sheet([[Image.fromarray(tile) for tile in row] for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _overlay(scene: Scene) -> Rgb:
    """Return the image in grey, each instance tinted and boxed in its class's colour."""
    grey = scene.image.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.7
    for instance in scene.instances:
        tint = np.array(PALETTE[len(STUFF_CLASSES) + instance.category])
        grey[instance.mask] = 0.45 * grey[instance.mask] + 0.55 * tint
    picture = Image.fromarray(grey.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for instance in scene.instances:
        ys, xs = np.nonzero(instance.mask)
        color = PALETTE[len(STUFF_CLASSES) + instance.category]
        draw.rectangle((xs.min(), ys.min(), xs.max(), ys.max()), outline=color)
    return np.asarray(picture)
