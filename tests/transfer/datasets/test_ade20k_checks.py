"""Every broken folder of label maps gives its finding; a good one gives none."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pretrain.checks.findings import errors
from transfer.datasets.ade20k_checks import ADE20K, FolderPair, ade20k, check_ade20k, class_count

SIZE = (40, 50)


@pytest.fixture
def root(tmp_path):
    """Two splits in ADE20K's layout; label 0 = other and three classes, all in every map."""
    rng = np.random.default_rng(0)
    for pair in ade20k(tmp_path):
        pair.images.mkdir(parents=True)
        pair.labels.mkdir(parents=True)
        for name in "ab":
            pixels = rng.integers(0, 255, (*SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(pair.images / f"{name}.jpg")
            Image.fromarray(labels()).save(pair.labels / f"{name}.png")
    return tmp_path


def labels(*extra):
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 4
    values[0, : len(extra)] = extra
    return values.astype(np.uint8)


def check(root, **options):
    return check_ade20k(ade20k(root), **{"classes": 3, "full": True, **options})


def codes(findings):
    return [(f.level, f.code) for f in findings]


def test_good_data_has_no_findings(root):
    assert check(root) == []
    assert check(root, full=False) == []


def label(root, name="a"):
    return root / f"annotations/training/{name}.png"


def test_a_value_outside_the_classes(root):
    Image.fromarray(labels(4, 200)).save(label(root))
    (finding,) = check(root)
    assert (finding.level, finding.code) == ("error", "label-value")
    assert "values [4, 200] outside 0..3" in finding.message
    assert check(root, classes=200, full=False) == []


def test_255_is_ignored_and_zero_may_be_a_class(root):
    Image.fromarray(labels(255)).save(label(root))
    assert check(root) == []
    assert check(root, classes=4, zero_is_other=False) == []
    found = errors(check(root, classes=3, zero_is_other=False))
    assert {f.code for f in found} == {"label-value"}


def test_palette_colour_and_deep_maps(root):
    palette = Image.fromarray(labels())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(label(root))
    assert codes(check(root)) == [("warning", "label-palette")]
    Image.fromarray(np.stack([labels()] * 3, -1)).save(label(root))
    assert codes(check(root)) == [("error", "label-mode")]
    Image.fromarray(labels().astype(np.uint16)).save(label(root))
    assert codes(check(root)) == [("error", "label-mode")]


def test_sizes_differ(root):
    Image.fromarray(labels()[:20]).save(label(root))
    (finding,) = check(root)
    assert finding.code == "label-size"
    assert finding.message == "50x20 pixels, its image has 50x40"


def test_missing_partners_name_each_other(root):
    label(root).unlink()
    (root / "images/validation/b.jpg").unlink()
    found = {f.code: f for f in check(root, full=False)}
    assert found.keys() == {"label-missing", "image-missing"}
    assert found["label-missing"].where == str(label(root))
    assert "training/a.jpg" in found["label-missing"].fix


def test_unreadable_files(root):
    label(root).write_bytes(label(root).read_bytes()[:60])
    (root / "images/training/b.jpg").write_bytes(b"")
    assert {f.code for f in check(root)} == {"label-unreadable", "image-unreadable"}


def test_the_same_image_in_both_splits(root):
    twin = (root / "images/training/a.jpg").read_bytes()
    (root / "images/validation/b.jpg").write_bytes(twin)
    (finding,) = check(root)
    assert finding.code == "split-overlap"
    pair = ade20k(root)[0]
    other = FolderPair("val", pair.images, pair.labels)
    assert "split-overlap" in {f.code for f in check_ade20k([pair, other], classes=3)}


def test_a_class_that_never_occurs_is_a_warning(root):
    found = check(root, classes=5)
    assert codes(found) == [("warning", "class-unused")] * 2
    assert "[4, 5]" in found[0].message


def test_empty_and_missing_folders(tmp_path):
    assert codes(check(tmp_path)) == [("error", "folder-missing")] * 2
    for pair in ade20k(tmp_path):
        pair.images.mkdir(parents=True)
        pair.labels.mkdir(parents=True)
    assert codes(check(tmp_path)) == [("error", "no-images")] * 2


def test_ade20k_itself_has_known_counts(root):
    for pair in ade20k(root):
        prefix = "ADE_train_" if pair.name == "training" else "ADE_val_"
        for file in (*pair.images.iterdir(), *pair.labels.iterdir()):
            file.rename(file.with_name(prefix + file.name))
    found = [f.message for f in check(root) if f.code == "counts"]
    assert found == ["2 images, ADE20K has 20,210", "2 images, ADE20K has 2,000"]
    assert sum(ADE20K.values()) == 22_210


def test_the_histogram_counts_pixels(root):
    histograms: dict[str, Counter[int]] = {}
    check(root, histograms=histograms)
    assert histograms["training"] == dict.fromkeys(range(4), 2 * SIZE[0] * SIZE[1] // 4)


def test_the_class_count_comes_from_classes_txt(root):
    assert class_count(root) == 150
    (root / "classes.txt").write_text("one\ntwo\nthree\n")
    assert class_count(root) == 3


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("full", [True, False])
def test_a_split_of_which_every_pixel_is_ignored(root, value, full):
    for name in "ab":
        ignored = np.full(SIZE, value, np.uint8)
        Image.fromarray(ignored).save(root / f"annotations/validation/{name}.png")
    found = [f for f in check(root, full=full) if f.level == "error"]
    assert [(f.code, f.where) for f in found] == [
        ("labels-ignored", str(root / "annotations/validation"))
    ]
    zero_counts = check(root, full=full, zero_is_other=False)
    assert ("error", "labels-ignored") in codes(zero_counts) or value == 0


def test_what_is_not_a_file_is_not_an_image(root):
    (root / "images/training/a.jpg").unlink()
    (root / "images/training/a.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "images/training/c.jpg")  # reading it would wait for ever
    assert codes(check(root)) == [("error", "image-missing")]


@pytest.mark.parametrize("full", [True, False])
def test_masks_of_zero_and_255_are_no_classes(root, full):
    for name in "ab":
        mask = np.where(labels() > 1, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(label(root, name))
    found = errors(check(root, classes=2, zero_is_other=False, full=full))
    assert "labels-ignored" in {f.code for f in found}
    told = next(f for f in found if f.code == "labels-ignored")
    assert "2 label maps hold 0 alone, and 255, which is ignored" in told.message
    assert "255 is 1" in told.fix


def test_one_class_beside_ignored_pixels_is_enough_where_there_is_one(root):
    for pair in ade20k(root):
        for path in pair.labels.iterdir():
            Image.fromarray(np.minimum(labels(), 1)).save(path)
    assert check(root, classes=1) == []
    assert {f.code for f in errors(check(root, classes=2))} == {"labels-ignored"}
