"""Made-up data has the oddities of the real thing."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.data.reading import read_image
from pretrain.data.sources import open_images
from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.datasets.lvis import is_lvis
from transfer.rehearsal.data import (
    IMAGE_FORMS,
    LabelFolders,
    image_bytes,
    make_images,
    make_instances,
    make_label_maps,
)


def test_images_have_imagenets_oddities():
    images = [Image.open(io.BytesIO(image_bytes(number))) for number in range(8)]
    assert {"L", "CMYK", "RGB"} <= {image.mode for image in images}
    assert "PNG" in {image.format for image in images}
    assert any(image.getexif().get(0x0112) == 6 for image in images)
    ends = [image_bytes(number)[-2:] for number in range(8)]
    assert len([end for end in ends if end != b"\xff\xd9"]) == 2  # the PNG, and the left-over


@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_every_form_is_read_whole(form, tmp_path):
    images = open_images(make_images(tmp_path, form, 40))
    assert len(images) == 40
    assert {read_image(images, i).mode for i in range(40)} == {"RGB"}


def test_forms_lie_as_the_real_ones(tmp_path):
    folders = make_images(tmp_path, "class folders", 8)
    assert {p.parent.parent for p in folders.rglob("*.JPEG")} == {folders}
    shards = sorted(make_images(tmp_path, "shards", 20).glob("*.tar"))
    with tarfile.open(shards[0]) as shard:
        assert shard.getnames()[:2] == ["00000000.jpg", "00000000.cls"]
    assert len(shards) == 2


def test_coco_has_cocos_forms(tmp_path):
    files = make_instances(tmp_path, "coco", 4, 2)
    content = json.loads(files.train_json.read_text())
    annotations = content["annotations"]
    assert max(c["id"] for c in content["categories"]) == 90 > len(content["categories"]) == 80
    assert any(isinstance(a["segmentation"], dict) and a["iscrowd"] for a in annotations)
    assert any(len(a["segmentation"]) == 2 for a in annotations)
    assert min(a["area"] for a in annotations) < 20
    seen = {a["image_id"] for a in annotations}
    assert len(seen) == len(content["images"]) - 1  # one shows nothing
    modes = {Image.open(files.train_images / i["file_name"]).mode for i in content["images"]}
    assert modes == {"L", "RGB"}


@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_the_checks_have_nothing_to_object(kind, tmp_path):
    files = make_instances(tmp_path, kind, 4, 2)
    splits = [
        CocoSplit("train", files.train_json, files.train_images),
        CocoSplit("val", files.val_json, files.val_images),
    ]
    assert {f.code for f in check_coco(splits, full=True)} == {"category-unused"}
    content = json.loads(files.val_json.read_text())
    assert is_lvis(content) == (kind == "lvis")
    assert all(("iscrowd" in a) == (kind == "coco") for a in content["annotations"])


def test_label_maps_have_ade20ks_values(tmp_path: Path):
    folders = LabelFolders(("i/t", "i/v"), ("l/t", "l/v"), ".jpg", ".png", 151)
    make_label_maps(tmp_path, folders, 5, 2)
    maps = [Image.open(p) for p in sorted((tmp_path / "l/t").iterdir())]
    assert {m.mode for m in maps} == {"L"}
    assert len({m.size for m in maps}) > 3
    values = np.unique(np.concatenate([np.unique(np.asarray(m)) for m in maps]))
    assert values[0] == 0
    assert values[-1] == 150
