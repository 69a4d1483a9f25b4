"""Ids of any kind survive the round trip, and ground truth as predictions is 100."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from detectron2.data.datasets import load_coco_json
from detectron2.structures import Boxes, Instances

from tests.transfer.detection.conftest import draw_split
from transfer.detection.data import Split, read_split, require_same_classes
from transfer.detection.evaluation.coco_eval import ENGINES, coco_metrics
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.evaluation.matching import to_rle
from transfer.detection.evaluation.saved import read_predictions


@pytest.fixture(scope="module")
def val(coco_data: dict[str, str]) -> Split:
    return read_split("val", coco_data["data.val_json"], coco_data["data.val_images"])


def perfect(split: Split) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """What a model that predicts all but the crowds takes in and gives out, an image a batch."""
    pairs = []
    for record in split.records:
        size = (record["height"], record["width"])
        truths = [a for a in record["annotations"] if not a["iscrowd"]]
        found = Instances(size)
        boxes = torch.tensor([a["bbox"] for a in truths]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.pred_boxes = Boxes(boxes)
        found.scores = torch.ones(len(boxes))
        found.pred_classes = torch.tensor([a["category_id"] for a in truths])
        masks = [mask_api.decode(to_rle(a, size)) for a in truths]
        found.pred_masks = torch.from_numpy(np.reshape(masks, (-1, *size))).bool()
        pairs.append(([record], [{"instances": found}]))
    return pairs


def test_ground_truth_as_predictions_scores_100(val: Split, tmp_path: Path) -> None:
    assert val.read_ground_truth()["annotations"][0]["id"] == 1  # the file starts at 0
    evaluator = CocoEvaluator(val, tmp_path)
    evaluator.reset()
    for inputs, outputs in perfect(val):
        evaluator.process(inputs, outputs)
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 100
    assert evaluator.metrics is not None
    assert evaluator.metrics.metrics["AP75_mask"] == 100
    assert evaluator.metrics.per_class["disc"] == {"AP_box": 100, "AP_mask": 100}
    saved = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {p["category_id"] for p in saved} == {3, 7}
    assert coco_metrics(val.read_ground_truth(), saved).metrics == evaluator.metrics.metrics


IDS = {
    "numbers as text": str,
    "text": lambda i: f"{i:04}.png",
    "fractions": lambda i: i + 0.5,
    "whole floats": float,
    "below zero": lambda i: -i,
    "zero": lambda i: i - 5,
    "beyond 64 bits": lambda i: i + 2**70,
}


def with_ids(
    source: Path, target: Path, image: Callable[[int], Any], category: Callable[[int], Any] = int
) -> Path:
    """Write an annotation file with other ids for its images and categories."""
    data = json.loads(source.read_text())
    for record in data["images"]:
        record["id"] = image(record["id"])
    for record in data["categories"]:
        record["id"] = category(record["id"])
    for record in data["annotations"]:
        record["image_id"] = image(record["image_id"])
        record["category_id"] = category(record["category_id"])
    target.write_text(json.dumps(data))
    return target


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_ids_of_any_kind_give_the_same_figures(
    val: Split, tmp_path: Path, kind: str, engine: str
) -> None:
    path = with_ids(val.json_file, tmp_path / "val.json", IDS[kind], IDS[kind])
    split = read_split("other", path, val.image_root)
    evaluator = CocoEvaluator(split, tmp_path, engine=engine)
    evaluator.reset()
    for inputs, outputs in perfect(split):
        evaluator.process(inputs, outputs)
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 100
    assert evaluator.metrics is not None
    assert evaluator.metrics.per_class["disc"] == {"AP_box": 100, "AP_mask": 100}
    saved = read_predictions(tmp_path)
    written = json.loads(path.read_text())
    assert {p["image_id"] for p in saved} < {i["id"] for i in written["images"]}
    assert {p["category_id"] for p in saved} == {c["id"] for c in written["categories"]}
    again = coco_metrics(read_split("again", path, "").read_ground_truth(), saved, engine=engine)
    assert again.metrics == evaluator.metrics.metrics


@pytest.mark.parametrize("change", [{"image_id": "5"}, {"category_id": "3"}, {"category_id": 4}])
@pytest.mark.parametrize("engine", ENGINES)
def test_detections_with_ids_of_another_kind_are_refused(
    val: Split, change: dict[str, Any], engine: str
) -> None:
    found = {"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1.0, **change}
    with pytest.raises(ValueError, match=r"that the ground truth lacks: \["):
        coco_metrics(val.read_ground_truth(), [found], tasks=("bbox",), engine=engine)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda i: [i], r"id of images: \[5\] is neither"),
        (lambda i: None if i == 15 else i, "None is neither a number nor text"),
        (lambda i: i > 5, "False is neither"),
        (lambda i: "5" if i == 5 else i, "some are numbers and some text, as 15 and '5'"),
        (lambda i: float("nan") if i == 5 else i, "one is not finite"),
    ],
)
def test_what_is_not_an_id_is_refused(
    val: Split, tmp_path: Path, image: Callable[[int], Any], message: str
) -> None:
    path = with_ids(val.json_file, tmp_path / "val.json", image)
    with pytest.raises(ValueError, match=message):
        read_split("other", path, val.image_root)
    with pytest.raises(ValueError, match=r"image_id of the detections: None"):
        coco_metrics(val.read_ground_truth(), [{"image_id": None, "category_id": 3}])


def test_class_indices_follow_the_order_of_ids(val: Split) -> None:
    assert val.category_ids == [3, 7]
    assert val.classes == ["square", "disc"]
    assert val.has_masks


def test_a_crowd_does_not_make_the_masks_bitmaps(val: Split, tmp_path: Path) -> None:
    crowds = [a for r in val.records for a in r["annotations"] if a["iscrowd"]]
    assert [type(a["segmentation"]) for a in crowds] == [dict]
    assert val.mask_format == "polygon"
    codes = draw_split(tmp_path / "codes", 2, seed=0, run_lengths=True)
    assert read_split("codes", *codes).mask_format == "bitmask"


def test_both_engines_give_the_same_numbers(val: Split) -> None:
    rng = np.random.default_rng(0)
    noisy = []
    for truth in val.read_ground_truth()["annotations"]:
        for _ in range(3):
            mask = mask_api.decode(to_rle(truth, (64, 64)))
            mask = np.roll(mask, tuple(rng.integers(-4, 5, 2)), (0, 1))
            code = mask_api.encode(np.asfortranarray(mask))
            noisy.append(
                {
                    "image_id": truth["image_id"],
                    "category_id": int(rng.choice([3, 7], p=[0.4, 0.6])),
                    "bbox": (np.asarray(truth["bbox"]) + rng.normal(0, 2, 4)).tolist(),
                    "score": float(rng.random()),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
            )
    before = copy.deepcopy(noisy)
    fast = coco_metrics(val.read_ground_truth(), noisy)
    slow = coco_metrics(val.read_ground_truth(), noisy, engine="pycocotools")
    assert noisy == before
    assert fast.metrics == pytest.approx(slow.metrics, abs=1e-9)
    assert 0 < fast.metrics["AP_mask"] < 100
    assert fast.per_class["disc"] == pytest.approx(slow.per_class["disc"], abs=1e-9)
    assert fast.evaluator.startswith("faster-coco-eval ")
    assert slow.evaluator.startswith("pycocotools ")


def test_no_detections_score_zero(val: Split) -> None:
    for engine in ("faster-coco-eval", "pycocotools"):
        assert set(coco_metrics(val.read_ground_truth(), [], engine=engine).metrics.values()) == {0}


def test_detections_of_other_images_are_refused(val: Split) -> None:
    stray = {"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1.0}
    for engine in ("faster-coco-eval", "pycocotools"):
        with pytest.raises(ValueError, match=r"images that the ground truth lacks: \[99\]"):
            coco_metrics(val.read_ground_truth(), [stray], tasks=("bbox",), engine=engine)


def test_an_unknown_engine_is_refused(val: Split) -> None:
    with pytest.raises(ValueError, match="choose from"):
        coco_metrics(val.read_ground_truth(), [], engine="cocoapi")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "no list of categories"),
        (lambda d: d["annotations"][0].update(category_id=99), "has category 99"),
        (lambda d: d["annotations"][0].update(image_id=99), "names image 99"),
        (lambda d: d["annotations"][0].update(bbox=[]), "has no bbox"),
    ],
)
def test_a_broken_annotation_file_is_refused(
    val: Split, tmp_path: Path, change: Any, message: str
) -> None:
    data = json.loads(val.json_file.read_text())
    change(data)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        read_split("broken", path, val.image_root)


def test_objects_without_a_polygon_are_left_out_as_in_detectron2(
    val: Split, tmp_path: Path
) -> None:
    data = json.loads(val.json_file.read_text())
    square, line = [1.0, 1, 9, 1, 9, 9, 1, 9], [1, 1, 9, 9]
    first, second = data["annotations"][:2]
    assert first["image_id"] == second["image_id"]
    first["segmentation"], second["segmentation"] = [line], [line, square]
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(data))
    left = read_split("lines", path, val.image_root).records[0]["annotations"]
    theirs = load_coco_json(str(path), str(val.image_root))[0]["annotations"]
    assert [a["segmentation"] for a in left][:1] == [[square]]
    assert len(left) == len(theirs) == len(val.records[0]["annotations"]) - 1


def test_records_are_detectron2s(val: Split) -> None:
    theirs = load_coco_json(str(val.json_file), str(val.image_root), "test_records_are_detectron2s")
    for ours, record in zip(val.records, theirs, strict=True):
        assert {k: v for k, v in ours.items() if k != "annotations"} == {
            k: v for k, v in record.items() if k != "annotations"
        }
        assert ours["annotations"] == record["annotations"]


def test_splits_with_other_categories_are_refused(val: Split, tmp_path: Path) -> None:
    data = json.loads(val.json_file.read_text())
    data["categories"][0]["name"] = "ring"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="different categories"):
        require_same_classes(val, read_split("other", path, val.image_root))
