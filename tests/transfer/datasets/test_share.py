"""A share of the training images: nested, the same everywhere, and all that a check speaks of."""

import json

import numpy as np
import pytest
from PIL import Image

from pretrain.checks.findings import errors
from transfer.datasets.ade20k_checks import FolderPair, check_ade20k
from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.datasets.coco_file import read_contents
from transfer.datasets.share import coco_share, share_of

COCO_NAMES = [f"{number:012}.jpg" for number in range(9, 2009)]


def test_a_smaller_share_is_a_part_of_a_larger_one():
    whole, previous = set(range(len(COCO_NAMES))), set()
    for share, count in ((0.0001, 1), (0.01, 20), (0.1, 200), (0.5, 1000), (1.0, 2000)):
        chosen = share_of(COCO_NAMES, share)
        assert len(chosen) == count
        assert chosen == sorted(chosen)
        assert previous < set(chosen) <= whole
        previous = set(chosen)


def test_a_share_follows_from_the_names_alone():
    chosen = {COCO_NAMES[n] for n in share_of(COCO_NAMES, 0.1)}
    mixed = list(reversed(COCO_NAMES))
    assert {mixed[n] for n in share_of(mixed, 0.1)} == chosen
    # of sha256sum over the five names, the second is the lowest: 8d50ed11...
    ade20k = [f"ADE_train_0000000{number}.jpg" for number in range(1, 6)]
    assert share_of(ade20k, 0.2) == [1]


@pytest.fixture
def coco(tmp_path):
    """Ten images: one without annotations, one with a crowd alone, eight with two objects each."""
    box = {"bbox": [2, 2, 10, 10], "area": 100, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]}
    images = [
        {"id": 100 - n, "file_name": f"{n:012}.jpg", "width": 32, "height": 24} for n in range(10)
    ]
    objects = [(100 - n, 0) for n in range(2, 10) for _ in range(2)]
    content = {
        "images": images,
        "annotations": [
            {"id": i, "image_id": image, "category_id": 1 + i % 2, "iscrowd": crowd, **box}
            for i, (image, crowd) in enumerate([(99, 1), *objects], start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "train").mkdir()
    rng = np.random.default_rng(0)
    for image in images:
        pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / image["file_name"])
    return content, tmp_path


def write(folder, content):
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


def test_a_share_of_coco_is_of_the_images_that_are_trained_on(coco):
    content, folder = coco
    contents = read_contents(write(folder, content))
    half = coco_share(contents, 0.5)
    usable = [image for image in content["images"] if image["id"] < 99]
    kept = [usable[n]["id"] for n in share_of([image["file_name"] for image in usable], 0.5)]
    assert [image["id"] for image in half.images] == kept
    packed = half.packed()
    assert len(packed.trainable()) == 4
    for place, image in enumerate(packed.images):
        expected = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert packed.annotations_of(place) == expected
    assert len(coco_share(contents, 0.001).packed().trainable()) == 1
    assert coco_share(contents, 1.0) is contents


def test_a_check_of_coco_speaks_of_the_images_that_are_kept(coco):
    content, folder = coco
    path = write(folder, content)
    names = {image["file_name"] for image in coco_share(read_contents(path), 0.5).images}
    half = CocoSplit("train", path, folder / "train", share=0.5)
    for image in content["images"]:
        if image["file_name"] not in names:
            (folder / "train" / image["file_name"]).unlink()
    assert errors(check_coco([half], full=True)) == []
    (folder / "train" / min(names)).unlink()
    (finding,) = errors(check_coco([half]))
    assert (finding.code, finding.where) == ("image-missing", str(folder / "train" / min(names)))


def test_annotations_outside_of_the_share_are_not_judged_and_unknown_images_are_found(coco):
    content, folder = coco
    path = write(folder, content)
    kept = {image["id"] for image in coco_share(read_contents(path), 0.5).images}
    half = CocoSplit("train", path, folder / "train", share=0.5)
    boxes = {a["image_id"]: a for a in content["annotations"]}
    boxes[next(i for i in boxes if i not in kept)]["bbox"] = [0, 0, -5, 3]
    write(folder, content)
    assert errors(check_coco([half])) == []
    boxes[next(i for i in boxes if i in kept)]["bbox"] = [0, 0, -5, 3]
    boxes[99]["image_id"] = 12345
    write(folder, content)
    assert {f.code for f in errors(check_coco([half]))} == {"box-invalid", "image-unknown"}


def test_counts_of_coco_itself_are_those_of_the_whole_file(tmp_path):
    names = ["person", "toothbrush", *(f"name{i}" for i in range(78))]
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(1, 5)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}
            for n in range(1, 5)
        ],
        "categories": [{"id": i + 1, "name": n} for i, n in enumerate(names)],
    }
    split = CocoSplit("train", write(tmp_path, content), tmp_path / "train2017", share=0.5)
    found = [f for f in check_coco([split]) if f.code == "counts"]
    assert "4 images and 4 instances, COCO 2017 has 118,287" in found[0].message


def test_a_check_of_label_maps_speaks_of_the_images_that_are_kept(tmp_path):
    names = [f"ADE_train_{n:08}" for n in range(1, 11)]
    pair = FolderPair("train", tmp_path / "images", tmp_path / "annotations", share=0.3)
    rng = np.random.default_rng(0)
    for folder, suffix, shape in (
        (pair.images, ".jpg", (20, 30, 3)),
        (pair.labels, ".png", (20, 30)),
    ):
        folder.mkdir()
        for name in names:
            pixels = rng.integers(0, 4, shape, np.uint8)
            Image.fromarray(pixels).save(folder / (name + suffix))
    kept = [names[n] for n in share_of([f"{name}.jpg" for name in names], 0.3)]
    assert len(kept) == 3
    for name in set(names) - set(kept):
        (pair.labels / f"{name}.png").write_bytes(b"not an image")
    assert errors(check_ade20k([pair], classes=3, full=True)) == []
    (pair.labels / f"{kept[0]}.png").unlink()
    (finding,) = errors(check_ade20k([pair], classes=3, full=True))
    assert (finding.code, finding.where) == ("label-missing", str(pair.labels / f"{kept[0]}.png"))
