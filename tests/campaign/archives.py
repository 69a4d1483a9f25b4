"""Archives and images that would fill the memory once expanded: refused by what they say."""

import copy
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from tests.campaign.case import Case, Place
from tests.campaign.world import DETECTION, FINETUNING, PRETRAIN, SEGMENTATION, edit_json

LARGE = 50_000_000  # bytes, of zeros: 50 kB once compressed
SIDE = 50_000  # pixels: 2.5 billion in all

Prepare = Callable[[Place], None]


def written(name: str, write: Callable[[Path], object]) -> Prepare:
    """Prepare one file in the case's folder."""
    return lambda place: write(place.own / name) and None


def deflated(path: Path) -> None:
    """Write a torch archive whose tensor is compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(LARGE))


def overlapping(path: Path) -> None:
    """Write a torch archive whose thousand entries are the same bytes of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(100_000))
        for number in range(1, 1000):
            entry = copy.copy(archive.filelist[1])
            entry.filename = f"archive/data/{number}"
            archive.filelist.append(entry)


def views(path: Path) -> None:
    """Write hundreds of tensors that repeat one value."""
    torch.save({f"block.{i}": torch.zeros(1).expand(50, 400) for i in range(400)}, path)


def module_of_views(path: Path) -> None:
    """Write a module whose buffers repeat one value."""
    module = nn.Sequential()
    for i in range(400):
        module.register_buffer(f"block{i}", torch.zeros(1).expand(50, 400))
    torch.save(module, path)


def compressed_shard(path: Path) -> None:
    """Write a tar file that is compressed, though its name does not say so."""
    path.write_bytes(gzip.compress(bytes(LARGE), 1))


def claiming_shard(path: Path, member: str = "0.jpg", size: int = 2**40) -> None:
    """Write a tar file whose only member says it is larger than the file."""
    info = tarfile.TarInfo(member)
    info.size = size
    path.write_bytes(info.tobuf() + bytes(10_240))


def cifar(path: Path) -> None:
    """Write an archive of CIFAR-100 whose training images say they are a terabyte."""
    shard = path.with_name("plain.tar")
    claiming_shard(shard, "cifar-100-python/train")
    path.write_bytes(gzip.compress(shard.read_bytes()))
    shard.unlink()


def png(path: Path) -> None:
    """Write a grey PNG of SIDE x SIDE pixels in some bytes."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    )
    stream = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    stream.seek(0, io.SEEK_END)
    for kind, data in parts:
        stream.write(struct.pack(">I", len(data)) + kind + data)
        stream.write(struct.pack(">I", zlib.crc32(kind + data)))
    path.write_bytes(stream.getvalue())


def with_png(folder: str, pattern: str, to: str | None = None) -> Prepare:
    """Prepare a copy of a folder in which the first file of a pattern is such a PNG."""
    return lambda place: png(min(place.copy(folder, to).glob(pattern)))


def coco(split: str) -> Prepare:
    """Prepare a copy of the annotations in which the first image is such a PNG, and said to be."""

    def prepare(place: Place) -> None:
        root = place.copy("coco") / split
        image = sorted((root / "images").iterdir())[1]  # the first has a mask of its size
        png(image)

        def resize(content: dict) -> None:
            for record in content["images"]:
                if record["file_name"] == image.name:
                    record.update(width=SIDE, height=SIDE)

        edit_json(root / "instances.json", resize)

    return prepare


TENSORS = {  # which -> how it is written, what is said
    "deflated": (deflated, "is compressed, which torch.save never does"),
    "overlapping": (overlapping, r"entries hold \d+ bytes, the file has"),
    "views": (views, r"claim \d+ values in a file of"),
}
DALLE = {**TENSORS, "views": (module_of_views, r"claim \d+ values in a file of")}
CHECK_COCO = (
    "coco --train-json {o}/coco/train/instances.json --train-images {o}/coco/train/images "
    "--val-json {o}/coco/val/instances.json --val-images {o}/coco/val/images"
)
CHECK_LABELS = (
    "ade20k --train-images {o}/scenes/images/train --train-labels {o}/scenes/labels/train "
    "--val-images {o}/scenes/images/val --val-labels {o}/scenes/labels/val --classes 3 "
    "--zero-is-a-class --image-suffix .png"
)
OWN_SHARDS = PRETRAIN.replace("{w}/images", "{o}/data.tar")
OWN_IMAGES = PRETRAIN.replace("{w}/images", "{o}/data") + " --check-images"
TRAIN_SCENES = SEGMENTATION.replace("{w}/scenes", "{o}/scenes")


def cases() -> Iterator[Case]:
    """Yield a case for each at each reader."""
    for name, (write, expect) in TENSORS.items():
        prepare = written("bad.pth", write)
        for tool, words in (
            ("inspect_weights", "{o}/bad.pth"),
            ("convert_weights", "{o}/bad.pth --out {o}/x.safetensors"),
            ("train_net", f"{DETECTION} weights={{o}}/bad.pth"),
        ):
            yield Case(f"bomb-{tool}-{name}", tool, words, expect, prepare)
    for name, (write, expect) in DALLE.items():
        words = "{o}/encoder.pkl --out {o}/x.safetensors"
        prepare = written("encoder.pkl", write)
        yield Case(f"bomb-dalle-{name}", "convert_dalle", words, expect, prepare)
    yield from _shards()
    yield from _images()


def _shards() -> Iterator[Case]:
    compressed = written("data.tar", compressed_shard)
    words = "not a readable uncompressed tar"
    yield Case("bomb-shard-compressed", "pretrain", OWN_SHARDS, words, compressed)
    claiming = written("data.tar", claiming_shard)
    words = r"data\.tar.*(is truncated|not a readable)"
    yield Case("bomb-shard-claiming", "pretrain", OWN_SHARDS, words, claiming)
    yield Case("bomb-shard-check", "check_data", "images {o}/data.tar", words, claiming, (1, 2))
    yield Case(
        "bomb-cifar",
        "finetune",
        FINETUNING.replace("{w}/classes", "{o}/cifar-100-python.tar.gz"),
        r"said to be \d+ bytes long",
        written("cifar-100-python.tar.gz", cifar),
    )


def _images() -> Iterator[Case]:
    said = "exceeds limit|decompression bomb"
    images = with_png("images", "*", "data")
    yield Case("bomb-png-pretrain", "pretrain", OWN_IMAGES, said, images)
    yield Case("bomb-png-check-images", "check_data", "images {o}/data", said, images, (1,))
    train = DETECTION.replace("{w}/coco", "{o}/coco")
    yield Case(
        "bomb-png-coco-train", "train_net", train, said, coco("train"), (1,), may_write=("out",)
    )
    yield Case("bomb-png-coco-val", "train_net", train, said, coco("val"))
    yield Case("bomb-png-coco-check", "check_data", CHECK_COCO, said, coco("train"), (1,))
    for folder in ("images", "labels"):
        prepare = with_png("scenes", f"{folder}/train/*")
        yield Case(f"bomb-png-scenes-{folder}", "train_seg", TRAIN_SCENES, said, prepare)
        yield Case(
            f"bomb-png-scenes-{folder}-check", "check_data", CHECK_LABELS, said, prepare, (1,)
        )
    yield Case(
        "bomb-png-classes",
        "finetune",
        FINETUNING.replace("{w}/classes", "{o}/classes"),
        said,
        with_png("classes", "val/cat/*"),
    )
