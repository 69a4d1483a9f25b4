"""The embedded dataset: the same whoever draws it, with masks and labels that are exact."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pretrain.checks import parallel
from pretrain.checks.findings import errors
from pretrain.data.readable import check_images_at
from transfer.datasets.ade20k_checks import ade20k, check_ade20k, class_count
from transfer.datasets.coco_checks import check_coco, coco2017
from transfer.datasets.shapes.files import ShapesSettings, draw_picture, make_shapes
from transfer.datasets.shapes.levels import EASY, HARD, STUFF_CLASSES, segmentation_classes
from transfer.datasets.shapes.scene import PALETTE, draw_scene

SEGMENTATION_CLASSES = segmentation_classes(3)
THING_CLASSES = EASY.things

SMALL = ShapesSettings(unlabelled=6, train=8, val=4, image_size=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    assert make_shapes(folder, SMALL)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def test_the_number_of_processes_changes_nothing(made, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "POOL_FROM", 1)
    make_shapes(tmp_path / "again", SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(made)


def test_an_image_depends_on_its_seed_split_and_index_only():
    image = draw_scene(0, "train", 3, 64).image
    draw_scene(1, "val", 0, 64)
    assert (draw_scene(0, "train", 3, 64).image == image).all()
    for other in ((1, "train", 3), (0, "val", 3), (0, "train", 4)):
        assert (draw_scene(*other, 64).image != image).any()


def test_more_images_leave_the_first_ones_as_they_were(made, tmp_path):
    make_shapes(tmp_path / "more", replace(SMALL, train=9))
    name = "coco/train2017/000000000008.jpg"
    assert (tmp_path / "more" / name).read_bytes() == (made / name).read_bytes()


def test_masks_and_labels_agree_to_the_pixel():
    for index in range(20):
        scene = draw_scene(0, "train", index)
        things = np.zeros(scene.labels.shape, int)
        for instance in scene.instances:
            assert not things[instance.mask].any(), "two instances claim a pixel"
            things[instance.mask] = 1 + len(STUFF_CLASSES) + instance.category
        is_thing = scene.labels > len(STUFF_CLASSES)
        assert (np.where(is_thing, scene.labels, 0) == things).all()
        assert scene.labels.max() <= len(SEGMENTATION_CLASSES)


def test_the_coco_file_decodes_to_the_visible_masks(made):
    content = json.loads((made / "coco/annotations/instances_val2017.json").read_text())
    for image in content["images"]:
        scene = draw_scene(SMALL.seed, "val", image["id"] - 1, SMALL.image_size)
        found = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert len(found) == len(scene.instances)
        for annotation, instance in zip(found, scene.instances, strict=True):
            assert (coco_mask.decode(annotation["segmentation"]) == instance.mask).all()
            assert annotation["category_id"] == instance.category + 1
            assert annotation["area"] == instance.mask.sum()
            x, y, w, h = map(int, annotation["bbox"])
            ys, xs = np.nonzero(instance.mask)
            assert (x, y, w, h) == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
    assert [a["id"] for a in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )


def test_label_maps_on_disk_are_the_scenes(made):
    labels = Image.open(
        made / "ADEChallengeData2016/annotations/validation/shapes_val_00000002.png"
    )
    assert labels.mode == "L"
    assert (np.asarray(labels) == draw_scene(0, "val", 1, 64).labels).all()


def test_the_made_data_passes_the_checks(made):
    assert not errors(check_coco(coco2017(made), full=True))
    assert class_count(made) == len(SEGMENTATION_CLASSES)
    assert len(PALETTE) == len(segmentation_classes(9))
    assert not errors(check_ade20k(ade20k(made), classes=class_count(made), full=True))
    assert not errors(check_images_at(made / "unlabelled"))
    assert len(list((made / "unlabelled").iterdir())) == SMALL.unlabelled


def test_every_class_and_other_occur():
    scenes = [draw_scene(0, "train", index, 64, HARD) for index in range(60)]
    labels = set(np.unique(np.stack([scene.labels for scene in scenes])).tolist())
    assert labels == set(range(len(segmentation_classes(9)) + 1))


def test_hard_classes_need_outline_and_surface():
    outlines = {name.split(" ")[1] for name in HARD.things}
    surfaces = {name.split(" ")[0] for name in HARD.things}
    assert len(HARD.things) == len(outlines) * len(surfaces) >= 8
    assert min(len(outlines), len(surfaces)) >= 3


@pytest.mark.parametrize(("level", "spread"), [(EASY, 4), (HARD, 10)])
def test_objects_cover_one_another_and_stay_visible(level, spread):
    scenes = [draw_scene(0, "train", index, 128, level) for index in range(30)]
    areas = [int(i.mask.sum()) for scene in scenes for i in scene.instances]
    assert min(areas) >= 0.002 * 128 * 128
    assert max(areas) > spread * min(areas)


def test_a_finished_run_does_nothing_and_another_one_is_refused(made):
    before = digests(made)
    assert not make_shapes(made, SMALL)
    assert digests(made) == before
    with pytest.raises(ValueError, match="give --out another"):
        make_shapes(made, replace(SMALL, seed=1))


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="holds something else"):
        make_shapes(tmp_path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_killed_run_is_made_anew(made, tmp_path, monkeypatch):
    calls = iter(range(7))

    def killed(*_, **__):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return draw_scene(0, "val", 0, 64)

    with monkeypatch.context() as patch:
        patch.setattr("transfer.datasets.shapes.files.draw_scene", killed)
        with pytest.raises(KeyboardInterrupt):
            make_shapes(tmp_path / "shapes", SMALL)
    assert not (tmp_path / "shapes").exists()
    (stale,) = tmp_path.glob(".shapes.partial-*")
    (stale / "unlabelled" / "99999999.jpg").write_text("of other settings")
    assert make_shapes(tmp_path / "shapes", SMALL)
    assert digests(tmp_path / "shapes") == digests(made)
    assert not list(tmp_path.glob("*partial*"))


def test_a_wrong_split_or_size_is_refused():
    with pytest.raises(ValueError, match="no scene"):
        draw_scene(0, "test", 0)
    with pytest.raises(ValueError, match="64 px"):
        draw_scene(0, "train", 0, 32)


def test_the_picture(tmp_path):
    draw_picture(tmp_path / "p.png", SMALL, columns=2)
    assert Image.open(tmp_path / "p.png").size == (2 * 68 - 4, 3 * 68 - 4)


def test_an_enlarged_scene_is_the_same_scene():
    small = draw_scene(0, "train", 1, 128)
    large = draw_scene(0, "train", 1, 256)
    assert len(large.instances) == len(small.instances)
    assert [i.category for i in large.instances] == [i.category for i in small.instances]
    middle = large.labels[1::2, 1::2]
    assert (middle == small.labels).mean() > 0.95
    shrunk = np.asarray(Image.fromarray(large.image).resize((128, 128), Image.Resampling.BOX))
    assert np.abs(shrunk.astype(int) - small.image).mean() < 12
    for instance in large.instances:
        assert (large.labels[instance.mask] == 1 + 6 + instance.category).all()


def test_edges_of_an_enlarged_scene_are_drawn_anew():
    """Masks of scenes resized by pixels would consist of blocks of two by two."""
    labels = draw_scene(0, "train", 1, 256).labels
    blocks = labels.reshape(128, 2, 128, 2)
    assert (blocks != blocks[:, :1, :, :1]).any()


def test_easy_classes_are_outlines_and_clutter_has_none_of_them():
    scenes = [draw_scene(0, "train", index, 64, EASY) for index in range(60)]
    assert EASY.things == ("disc", "box", "star")
    assert {i.category for scene in scenes for i in scene.instances} == {0, 1, 2}
    assert all(1 <= len(scene.instances) <= 4 for scene in scenes)
    labels = set(np.unique(np.stack([scene.labels for scene in scenes])).tolist())
    assert labels == set(range(len(segmentation_classes(3)) + 1))


def test_a_smaller_number_of_classes_keeps_the_first_surfaces():
    level = ShapesSettings(level="hard", classes=6).rules
    assert level.things == HARD.things[:6]
    scenes = [draw_scene(0, "train", index, 64, level) for index in range(40)]
    assert {i.category for scene in scenes for i in scene.instances} == set(range(6))
    with pytest.raises(ValueError, match="3, 6, 9, got 4"):
        _ = ShapesSettings(classes=4).rules
    with pytest.raises(ValueError, match="easy, hard, got"):
        _ = ShapesSettings(level="medium").rules


def test_zoomed_data_of_another_level_passes_the_checks(tmp_path):
    settings = ShapesSettings(
        unlabelled=1, train=4, val=2, image_size=64, zoom=1.5, level="easy", classes=3
    )
    assert make_shapes(tmp_path / "data", settings)
    assert not errors(check_coco(coco2017(tmp_path / "data"), full=True))
    assert class_count(tmp_path / "data") == 9
    assert not errors(check_ade20k(ade20k(tmp_path / "data"), classes=9, full=True))
    (image,) = (tmp_path / "data/unlabelled").iterdir()
    assert Image.open(image).size == (96, 96)
    content = json.loads((tmp_path / "data/coco/annotations/instances_val2017.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["disc", "box", "star"]
    assert (content["images"][0]["width"], content["info"]["zoom"]) == (96, 1.5)
    with pytest.raises(ValueError, match="give --out another"):
        make_shapes(tmp_path / "data", replace(settings, level="hard"))
