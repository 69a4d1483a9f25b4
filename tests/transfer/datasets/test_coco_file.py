"""Records come from the file as they stand there, and cost no memory until they do."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest

from transfer.datasets import json_pieces
from transfer.datasets.coco_file import Mask, NotCocoError, mask_kind, read_contents

SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


def content(images=3, annotations=7):
    """Images with ids not in order, annotations in turn; the last image is wide."""
    return {
        "annotations": [
            {
                "id": i,
                "image_id": 10 * (i % images),
                "category_id": 5,
                "bbox": [1, 1, 8, 8],
                "segmentation": SQUARE,
                "iscrowd": int(i == 1),
                "note": "ü",
            }
            for i in range(annotations)
        ],
        "images": [
            {"id": 10 * i, "file_name": f"{i}.png", "width": 520 + i, "height": 522 - i}
            for i in reversed(range(images))
        ],
        "categories": [{"id": 7, "name": "b"}, {"id": 5, "name": "a"}],
    }


def write(path, made):
    path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    return path


def test_records_are_those_of_the_file_by_image(tmp_path):
    made = content()
    packed = read_contents(write(tmp_path / "a.json", made)).packed()
    assert [image["id"] for image in packed.images] == [0, 10, 20]
    assert packed.wide.tolist() == [False, False, True]
    assert [c["id"] for c in packed.categories] == [5, 7]
    for place, image in enumerate(packed.images):
        expected = [a for a in made["annotations"] if a["image_id"] == image["id"]]
        assert packed.annotations_of(place) == expected
    assert packed.crowd.sum() == 1
    again = pickle.loads(pickle.dumps(packed))  # sent to another process
    assert again.annotations_of(2) == packed.annotations_of(2)


def test_images_without_a_usable_object_are_not_trained_on(tmp_path):
    made = content(images=4, annotations=4)  # the second image has a crowd
    made["annotations"][2]["segmentation"] = [[1, 1, 5, 5]]
    made["annotations"][3]["segmentation"] = []  # a box alone
    packed = read_contents(write(tmp_path / "a.json", made)).packed()
    assert packed.trainable().tolist() == [0, 3]
    assert packed.annotations_of(2) == []


def test_kinds_of_masks():
    for mask, kind in (
        (None, Mask.NONE),
        ([], Mask.NONE),
        (SQUARE, Mask.POLYGONS),
        ([[1, 2, 3, 4]], Mask.BROKEN),
        ([[1, 2, 3, 4], *SQUARE], Mask.POLYGONS),
        ({"counts": "1"}, Mask.RUN_LENGTHS),
    ):
        assert mask_kind({"segmentation": mask}) == kind


def test_a_file_that_changes_is_noticed(tmp_path):
    path = write(tmp_path / "a.json", content())
    packed = read_contents(path).packed()
    write(path, content(annotations=8))
    with pytest.raises(ValueError, match="has changed since the run began"):
        packed.images[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "no list of categories"),
        (lambda d: d.update(images={}), "no list of images"),
        (lambda d: d["images"].append(3), r"images\[3\] is not a record"),
        (lambda d: d["images"][1].pop("width"), r"images\[1\] lacks width"),
    ],
)
def test_another_format_is_refused(tmp_path, change, message):
    made = content()
    change(made)
    with pytest.raises(NotCocoError, match=message):
        read_contents(write(tmp_path / "a.json", made))


def test_little_is_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_pieces, "CHUNK_BYTES", 1 << 16)
    rng = np.random.default_rng(0)
    made = content(images=500, annotations=4000)
    for annotation in made["annotations"]:  # 60 numbers, as COCO's polygons
        annotation["segmentation"] = [rng.uniform(0, 600, 60).round(2).tolist()]
    path = write(tmp_path / "a.json", made)
    size = path.stat().st_size
    del made
    tracemalloc.start()
    json.loads(path.read_bytes())
    whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    packed = read_contents(path).packed()
    held, peak = (bytes_ - before for bytes_ in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert whole > 3 * size
    assert held < 0.15 * size
    assert peak < 0.6 * size
    assert len(packed.annotations_of(5)) == 8
