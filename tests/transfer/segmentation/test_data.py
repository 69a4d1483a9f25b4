"""The order of samples and their augmentation follow from the seed and the position alone."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from transfer.datasets.share import share_of
from transfer.results.protocol import image_list
from transfer.segmentation import data as data_module
from transfer.segmentation.data import (
    LabelledImages,
    Position,
    PositionSampler,
    check_data,
    class_names,
    find_pairs,
    names_digest,
    seeded,
)


def sampler(batch, rank=0, world=1, seed=0, images=10, monkeypatch=None):
    if monkeypatch:
        monkeypatch.setattr(data_module, "get_dist_info", lambda: (rank, world))
    return PositionSampler(range(images), batch_size=batch, seed=seed)


def test_an_epoch_is_a_permutation_and_seeds_differ():
    first = [p.index for p in islice(sampler(4), 20)]
    assert sorted(first[:10]) == list(range(10))
    assert sorted(first[10:]) == list(range(10))
    assert first[:10] != first[10:]
    assert first != [p.index for p in islice(sampler(4, seed=1), 20)]


@pytest.mark.parametrize("used", [1, 4, 12, 23])
def test_a_skip_continues_where_the_samples_ended(used):
    whole = list(islice(sampler(4), 40))
    later = sampler(4)
    later.skip(used)
    assert list(islice(later, 40 - used)) == whole[used:]


def test_two_processes_share_the_batches_of_one(monkeypatch):
    one = list(islice(sampler(6), 24))
    parts = [list(islice(sampler(3, rank, 2, monkeypatch=monkeypatch), 12)) for rank in range(2)]
    for step in range(4):
        both = parts[0][3 * step : 3 * step + 3] + parts[1][3 * step : 3 * step + 3]
        assert both == one[6 * step : 6 * step + 6]


def random_numbers():
    return np.random.rand(), float(torch.rand(()))  # noqa: NPY002


def test_seeded_is_local():
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = random_numbers()
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    with seeded(0, 3):
        inside = random_numbers()
    assert random_numbers() == expected
    with seeded(0, 3):
        assert random_numbers() == inside
    with seeded(0, 4):
        assert random_numbers() != inside


def test_a_position_is_augmented_the_same_way_whenever_it_is_read(scenes):
    from mmcv.transforms import LoadImageFromFile
    from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop
    from mmseg.datasets.transforms.loading import LoadAnnotations  # noqa: F401

    from transfer.segmentation.labels import LoadLabels

    pipeline = [LoadImageFromFile(), LoadLabels(), RandomCrop((32, 32)), PhotoMetricDistortion()]
    data = LabelledImages(
        str(scenes), "images/train", "labels/train", ["a", "b", "c"], pipeline=pipeline
    )
    first = data[Position(7, 3, seed=0)]["img"]
    other = data[Position(8, 3, seed=0)]["img"]
    assert np.array_equal(data[Position(7, 3, seed=0)]["img"], first)
    assert not np.array_equal(first, other)


def folders(tmp_path, label=None):
    """A minimal data set of two splits; `label` replaces one training label map."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        rng = np.random.default_rng(len(split))
        for name in "ab":
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{name}.png")
            values = np.eye(8, dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "labels" / split / f"{name}.png")
    if label is not None:
        Image.fromarray(label).save(tmp_path / "labels/train/b.png")
    return {
        "data_root": str(tmp_path),
        "train_images": "images/train",
        "val_images": "images/val",
        "train_labels": "labels/train",
        "val_labels": "labels/val",
        "image_suffix": None,
        "label_suffix": ".png",
        "num_classes": 2,
        "reduce_zero_label": False,
        "allow_findings": [],
    }


def test_good_data_pass(tmp_path):
    check_data(folders(tmp_path))


def test_bad_data_are_named_before_training(tmp_path):
    cfg = folders(tmp_path, label=np.full((8, 8), 7, np.uint8))
    with pytest.raises(ValueError, match=r"labels/train/b\.png: values \[7\] outside"):
        check_data(cfg)
    (tmp_path / "labels/train/b.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="label-unreadable"):
        check_data(cfg)
    (tmp_path / "labels/train/b.png").unlink()
    with pytest.raises(ValueError, match="an image without a label map"):
        check_data(cfg)
    with pytest.raises(FileNotFoundError, match=r"b\.png has no label map"):
        find_pairs(tmp_path / "images/train", tmp_path / "labels/train", ".png", ".png")


def test_mixed_suffixes_and_empty_folders_are_refused(tmp_path):
    cfg = folders(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "images/train/c.jpg")
    with pytest.raises(ValueError, match=r"holds \.jpg, \.png: give image_suffix"):
        check_data(cfg)
    with pytest.raises(FileNotFoundError, match="no folder"):
        check_data({**cfg, "train_images": "nowhere"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no image \(\.bmp, "):
        check_data({**cfg, "train_images": "empty"})


def test_what_training_can_bear_is_told(tmp_path, caplog):
    check_data({**folders(tmp_path), "num_classes": 3})
    assert "labels [2] occur nowhere" in caplog.text


def test_file_names_that_are_not_utf_8_are_names(tmp_path):
    (tmp_path / "b\udce9.png").write_bytes(b"")
    path = next(tmp_path.iterdir())
    assert len(names_digest([(path, path)], tmp_path)) == 64
    assert share_of([path.name, "a.png"], 0.5)
    assert image_list([path.name], ["a"])["images"] == 1


def test_a_file_of_classes_that_is_not_utf_8_is_named(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_bytes("background\r\nnucleus\r\n".encode("utf-8-sig"))
    assert class_names(str(file))[0] == ("background", "nucleus")
    file.write_bytes(b"background\nz\xe9lle\n")
    with pytest.raises(ValueError, match=r"classes\.txt: not a text file in UTF-8"):
        class_names(str(file))
