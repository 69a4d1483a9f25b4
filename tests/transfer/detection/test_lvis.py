"""LVIS files are read as COCO's and judged by LVIS' rules."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image

from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.datasets.lvis import best_of_each_image, is_lvis
from transfer.detection.config import load_config
from transfer.detection.data import read_split
from transfer.detection.evaluation.coco_eval import coco_metrics

CONFIG = Path(__file__).parents[3] / "configs/detection/resnet50_lvis_1x.py"
HERE, THERE = [10, 10, 40, 40], [60, 60, 20, 20]  # boxes
RARE, COMMON, FREQUENT = 4, 7, 9  # category ids


def mask(box: list[int]) -> dict[str, Any]:
    x, y, w, h = box
    (code,) = mask_api.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], 100, 100)
    return {"size": code["size"], "counts": code["counts"].decode()}


def thing(image: int, category: int, box: list[int], **more: Any) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "segmentation": mask(box),
        **more,
    }


@pytest.fixture
def truth() -> dict[str, Any]:
    """Image 1 shows a rare thing, perhaps more of them, and nothing frequent; 2 the others."""
    address = "http://images.cocodataset.org/val2017/{}.png"
    sides = {"width": 100, "height": 100}
    first = {"neg_category_ids": [FREQUENT], "not_exhaustive_category_ids": [RARE]}
    second = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    return {
        "images": [
            {"id": i, "coco_url": address.format(i), **sides, **known}
            for i, known in ((1, first), (2, second))
        ],
        "annotations": [
            thing(1, RARE, HERE, id=1, iscrowd=0),
            thing(2, COMMON, HERE, id=2, iscrowd=0),
            thing(2, FREQUENT, HERE, id=3, iscrowd=0),
        ],
        "categories": [
            {"id": RARE, "name": "a", "frequency": "r"},
            {"id": COMMON, "name": "b", "frequency": "c"},
            {"id": FREQUENT, "name": "c", "frequency": "f"},
        ],
    }


@pytest.fixture
def found() -> list[dict[str, Any]]:
    """Each thing, and before it in score one of its category that is not there, all on image 1."""
    right = [(1, RARE), (2, COMMON), (2, FREQUENT)]
    return [
        *(thing(image, category, HERE, score=0.5) for image, category in right),
        *(thing(1, category, THERE, score=0.9) for category in (RARE, COMMON, FREQUENT)),
    ]


@pytest.mark.parametrize("name", ["box", "mask"])
def test_only_what_is_known_counts(truth: Any, found: Any, name: str) -> None:
    """Not exhaustively marked, and not known to be absent: no fault. Known to be absent: one."""
    result = coco_metrics(truth, found)
    metrics = {k.removesuffix(f"_{name}"): v for k, v in result.metrics.items() if k.endswith(name)}
    expected = {"AP": 250 / 3, "APr": 100, "APc": 100, "APf": 50}
    assert {k: metrics[k] for k in expected} == pytest.approx(expected)
    assert result.per_class["c"][f"AP_{name}"] == pytest.approx(50)
    assert result.evaluator.endswith(", LVIS")


def test_coco_counts_everything(truth: Any, found: Any) -> None:
    for image in truth["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    metrics = coco_metrics(truth, found).metrics
    assert metrics["AP_box"] == pytest.approx(50)
    assert "APr_box" not in metrics


def test_the_best_of_an_image_count_over_all_categories(truth: Any, found: Any) -> None:
    assert [d["score"] for d in best_of_each_image(found, 2)] == [0.9, 0.9, 0.5, 0.5]
    assert coco_metrics(truth, found, max_detections=2).metrics["APr_box"] == 0


def test_an_image_of_which_nothing_is_known_may_have_detections(truth: Any) -> None:
    """faster-coco-eval fails where all detections of an image without objects are ignored."""
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] == 1]
    right, nowhere = thing(1, RARE, HERE, score=0.5), thing(2, COMMON, HERE, score=0.9)
    metrics = coco_metrics(truth, [right, nowhere]).metrics
    assert metrics["APr_box"] == metrics["APr_mask"] == pytest.approx(100)


def test_other_engines_are_refused(truth: Any, found: Any) -> None:
    with pytest.raises(ValueError, match="LVIS needs faster-coco-eval"):
        coco_metrics(truth, found, engine="pycocotools")


def test_files_are_found_by_their_address(truth: Any, tmp_path: Path) -> None:
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(truth))
    (tmp_path / "val2017").mkdir()
    for i in (1, 2):
        Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / f"val2017/{i}.png")
    split = read_split("lvis", path, tmp_path)
    assert [r["file_name"] for r in split.records] == [
        f"{tmp_path}/val2017/{i}.png" for i in (1, 2)
    ]
    assert split.category_ids == [RARE, COMMON, FREQUENT]
    assert is_lvis(split.read_ground_truth())
    assert not check_coco([CocoSplit("val", path, tmp_path)], full=True)
    again = copy.deepcopy(truth)
    again["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/none.png"
    path.write_text(json.dumps(again))
    assert [f.code for f in check_coco([CocoSplit("val", path, tmp_path)])] == ["image-missing"]


def test_the_config_names_lvis() -> None:
    config = load_config(CONFIG, ["data.root=/d"])
    assert config.data.val_json == "/d/lvis/lvis_v1_val.json"
    assert config.data.val_images == "/d/coco"
    assert config.model.max_detections == 300
