"""Every broken COCO file gives its finding; a good one gives none."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pretrain.checks.findings import errors
from transfer.datasets.coco_checks import CocoSplit, check_coco, coco2017
from transfer.datasets.instance_checks import run_lengths

WIDTH, HEIGHT = 60, 50


def polygon(x=5, y=5, w=20, h=10):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def write_split(root, name, seed):
    rng = np.random.default_rng(seed)
    folder = root / name
    folder.mkdir(parents=True)
    for number in (1, 2):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}{number}.png")
    crowd = {"size": [HEIGHT, WIDTH], "counts": [100, 50, HEIGHT * WIDTH - 150]}
    mask = np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8))
    packed = coco_mask.encode(mask)
    packed["counts"] = packed["counts"].decode()
    box = {"bbox": [5, 5, 20, 10], "iscrowd": 0}
    return {
        "images": [
            {"id": i, "file_name": f"{name}{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "segmentation": polygon(), **box},
            {"id": 2, "image_id": 2, "category_id": 90, "segmentation": packed, **box},
            {"id": 3, "image_id": 2, "category_id": 7, "segmentation": crowd, **box, "iscrowd": 1},
        ],
    }


@pytest.fixture
def data(tmp_path):
    """The two splits' JSON by name, and a function that saves them and checks the pair."""
    contents = {name: write_split(tmp_path, name, i) for i, name in enumerate(("train", "val"))}
    splits = [CocoSplit(n, tmp_path / f"{n}.json", tmp_path / n) for n in contents]

    def check(full=True):
        for split in splits:
            split.annotations.write_text(json.dumps(contents[split.name]))
        return check_coco(splits, full=full)

    return contents, check, tmp_path


def test_good_data_has_no_findings(data):
    _, check, _ = data
    assert check(full=True) == []
    assert check(full=False) == []


def annotation(**changes):
    return lambda contents: contents["train"]["annotations"][0].update(changes)


def image(**changes):
    return lambda contents: contents["train"]["images"][0].update(changes)


def whole(name, value):
    return lambda contents: contents["train"].update({name: value})


RLE = {"size": [HEIGHT, WIDTH], "counts": "c26>"}
BROKEN = {
    "annotation-id-twice": annotation(id=2),
    "category-unknown": annotation(category_id=8),
    "image-unknown": annotation(image_id=9),
    "box-format": annotation(bbox=[1, 2, 3]),
    "box-invalid": annotation(bbox=[30, 30, -5, 5]),
    "box-outside": annotation(bbox=[30, 30, 40, 5]),
    "polygon-invalid": annotation(segmentation=[[1, 1, 5, "5", 3, 3]]),
    "polygon-outside": annotation(segmentation=polygon(x=50)),
    "mask-missing": annotation(segmentation=[]),
    "mask-size": annotation(segmentation={**RLE, "size": [WIDTH, HEIGHT]}),
    "mask-format": annotation(segmentation=RLE),
    "image-id-twice": image(id=2),
    "image-missing": image(file_name="gone.png"),
    "image-twice": image(file_name="train2.png"),
    "image-size": image(width=WIDTH + 8),
    "categories-differ": whole("categories", [{"id": 7, "name": "dog"}, {"id": 90, "name": "cat"}]),
    "category-id-twice": whole("categories", [{"id": 7, "name": "cat"}, {"id": 7, "name": "dog"}]),
    "category-name-twice": whole("categories", [{"id": i, "name": "cat"} for i in (7, 90)]),
    "no-images": whole("images", []),
    "id-invalid": image(id=[1]),
    "annotations-format": whole("annotations", [{"id": 1}]),
}


@pytest.mark.parametrize("code", sorted(BROKEN))
def test_each_fault_is_found(data, code):
    contents, check, _ = data
    BROKEN[code](contents)
    found = [f for f in errors(check()) if f.code == code]
    assert found
    assert found[0].fix


@pytest.mark.parametrize("value", [None, True, {"a": 1}, "1", float("nan")])
@pytest.mark.parametrize("change", [image, annotation])
def test_what_is_not_an_id_is_found(data, change, value):
    contents, check, _ = data
    keys = ("id",) if change is image else ("id", "image_id", "category_id")
    for key in keys:
        change(**{key: value})(contents)
        (finding,) = [f for f in errors(check()) if f.code == "id-invalid"]
        assert finding.where.endswith(f" {key}")
        change(**{key: 1})(contents)


def test_ids_may_be_text(data):
    contents, check, _ = data
    for content in contents.values():
        for record in content["images"]:
            record["id"] = f"{record['id']}.png"
        for record in content["annotations"]:
            record["image_id"] = f"{record['image_id']}.png"
    assert check() == []


NEEDS_PIXELS = {"image-size"}


@pytest.mark.parametrize("code", sorted(BROKEN.keys() - NEEDS_PIXELS))
def test_faults_of_the_annotations_are_found_without_reading_images(data, code):
    contents, check, _ = data
    BROKEN[code](contents)
    assert code in {f.code for f in errors(check(full=False))}


@pytest.mark.parametrize(
    "counts",
    [[100, 50], [10, -5, HEIGHT * WIDTH - 5], "", "\x01", "é", {"a": 1}, None, [1, "x"]],
)
def test_run_lengths_that_do_not_cover_the_image_are_found(data, counts):
    contents, check, _ = data
    annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": counts})(contents)
    assert "mask-format" in {f.code for f in errors(check(full=False))}


def test_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for density in (0.01, 0.3, 0.9):
        mask = np.asfortranarray(rng.random((83, 120)) < density, dtype=np.uint8)
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=0))
        expected = np.diff([0, *edges, flat.size]).tolist()
        assert run_lengths(coco_mask.encode(mask)["counts"]) == expected


def test_an_empty_box_is_a_warning_since_coco_has_some(data):
    contents, check, _ = data
    annotation(bbox=[5, 5, 3, 0])(contents)
    assert [(f.level, f.code) for f in check()] == [("warning", "box-empty")]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("polygon-short", {"segmentation": [*polygon(), [1, 1, 5, 5]]}),
        ("polygon-short", {"segmentation": [[1, 1, 5, 5, 3]]}),
        ("box-over-edge", {"bbox": [30, 30, 33, 5]}),
        ("polygon-over-edge", {"segmentation": polygon(x=43)}),
    ],
)
def test_what_training_clips_or_leaves_out_is_a_warning(data, code, change):
    contents, check, _ = data
    annotation(**change)(contents)
    assert [(f.level, f.code) for f in check()] == [("warning", code)]


def test_annotations_may_stand_before_their_images(data):
    contents, check, _ = data
    contents["train"] = dict(reversed(contents["train"].items()))
    assert next(iter(contents["train"])) == "annotations"
    assert check() == []
    annotation(bbox=[30, 30, 40, 5])(contents)
    assert {f.code for f in errors(check())} == {"box-outside"}


def test_id_zero_is_a_warning(data):
    contents, check, _ = data
    annotation(id=0)(contents)
    assert [(f.level, f.code) for f in check()] == [("warning", "annotation-id-zero")]


def test_unreadable_image_and_json(data):
    _, check, root = data
    (root / "val/val1.png").write_bytes((root / "val/val1.png").read_bytes()[:300])
    (finding,) = check()
    assert (finding.code, finding.where) == ("image-unreadable", str(root / "val/val1.png"))
    (root / "bad.json").write_text('{"images": [')
    (finding,) = check_coco([CocoSplit("train", root / "bad.json", root / "train")])
    assert finding.code == "annotations-unreadable"


def test_an_image_in_both_splits_is_found_by_name_and_by_content(data):
    contents, check, root = data
    twin = (root / "train/train1.png").read_bytes()
    (root / "val/val1.png").write_bytes(twin)
    (finding,) = check(full=True)
    assert finding.code == "split-overlap"
    (root / "val/train1.png").write_bytes(twin)
    contents["val"]["images"][0]["file_name"] = "train1.png"
    (finding,) = check(full=False)
    assert finding.code == "split-overlap"


def test_other_images_of_the_same_name_are_no_overlap(data):
    contents, check, root = data
    (root / "val/train1.png").write_bytes((root / "val/val1.png").read_bytes())
    contents["val"]["images"][0]["file_name"] = "train1.png"
    assert check() == []


def test_coco_itself_has_known_counts(tmp_path):
    names = ["person", "toothbrush", *(f"name{i}" for i in range(78))]
    for split in coco2017(tmp_path):
        split.images.mkdir(parents=True)
        split.annotations.parent.mkdir(exist_ok=True)
        categories = [{"id": i + 1, "name": n} for i, n in enumerate(names)]
        content = {"images": [], "annotations": [], "categories": categories}
        split.annotations.write_text(json.dumps(content))
    found = [f for f in errors(check_coco(coco2017(tmp_path))) if f.code == "counts"]
    assert len(found) == 2
    assert "118,287 and 860,001" in found[0].message
    assert "5,000 and 36,781" in found[1].message


@pytest.mark.parametrize("key", ["box", "polygon"])
def test_shares_of_the_sides_are_not_pixels(data, key):
    contents, check, _ = data
    annotations = contents["train"]["annotations"]
    for record in annotations:
        if key == "box":
            record["bbox"] = [0.1, 0.1, 0.5, 0.5]
        elif isinstance(record["segmentation"], list):
            record["segmentation"] = polygon(0.1, 0.1, 0.5, 0.5)
    (finding,) = errors(check())
    assert finding.code == f"{key}-outside"
    assert f"no {key} reaches beyond 1" in finding.message
    annotations[0].update(bbox=[5, 5, 20, 10], segmentation=polygon())
    assert errors(check()) == []  # one is enough: small objects lie in corners


def test_objects_without_a_polygon_of_three_points_are_nothing_to_learn(data):
    contents, check, _ = data
    for record in contents["train"]["annotations"]:
        record.update(segmentation=[[5, 5, 25, 15]], iscrowd=0)
    assert [f.code for f in errors(check())] == ["no-objects"]


def test_a_negative_run_is_told(data):
    contents, check, _ = data
    counts = [5, -5, HEIGHT * WIDTH]
    annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": counts})(contents)
    (finding,) = errors(check())
    assert finding.message == "a run of -5 pixels"


def test_an_absolute_file_name_is_not_called_missing(data):
    contents, check, root = data
    image(file_name=str(root / "train" / "train1.png"))(contents)
    (finding,) = errors(check())
    assert finding.message == "file_name is not below the folder"


@pytest.mark.parametrize("area", ["big", None, float("nan")])
def test_an_area_that_is_no_number_is_found(data, area):
    contents, check, _ = data
    annotation(area=area)(contents)
    (finding,) = errors(check())
    assert "expected pixels, a number" in finding.message
