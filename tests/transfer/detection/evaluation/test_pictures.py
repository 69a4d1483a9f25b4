"""Hits, false positives and misses are told apart, chosen and drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image

from transfer.detection.data import Split, read_split
from transfer.detection.evaluation.curves import draw_curves
from transfer.detection.evaluation.matching import match
from transfer.detection.evaluation.pictures import HIT, MISSED, WRONG, best_score, choose, draw
from transfer.detection.evaluation.saved import read_predictions, read_val

SIZE = (40, 40)


def thing(x: int, y: int, kind: int = 1, **more: Any) -> dict[str, Any]:
    """A square of ten pixels at (x, y)."""
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + 10, x : x + 10] = 1
    code = mask_api.encode(np.asfortranarray(mask))
    return {"bbox": [x, y, 10, 10], "category_id": kind, "segmentation": code, **more}


@pytest.fixture(scope="module")
def val(coco_data: dict[str, str]) -> Split:
    return read_split("val", coco_data["data.val_json"], coco_data["data.val_images"])


@pytest.fixture(scope="module")
def found(val: Split) -> list[dict[str, Any]]:
    """Every disc is found, no square; the last image has a false disc as well."""
    discs = [
        {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for a in val.read_ground_truth()["annotations"]
        if a["category_id"] == 7
    ]
    return [*discs, {**discs[-1], "bbox": [0, 0, 5, 5], "segmentation": None, "score": 0.8}]


@pytest.mark.parametrize("masks", [True, False])
def test_matching_is_greedy_by_score_within_a_class(masks: bool) -> None:
    truths = [thing(0, 0), thing(20, 20), thing(0, 20, kind=2)]
    found = [thing(2, 0, score=0.5), thing(0, 0, score=0.9), thing(0, 20, score=0.8)]
    result = match(found, truths, size=SIZE, masks=masks)
    assert result.hits == [(1, 0)]
    assert result.false_positives == [2, 0]
    assert result.misses == [1, 2]


def test_crowds_are_neither_hits_nor_misses() -> None:
    truths = [thing(0, 0, iscrowd=1)]
    result = match([thing(1, 0, score=0.9)], truths, size=SIZE)
    assert (result.hits, result.false_positives, result.misses) == ([], [], [])


def test_the_score_shown_is_that_of_the_best_f1(val: Split, found: list[dict[str, Any]]) -> None:
    low = [{**found[0], "bbox": [0, 0, 3, 3], "score": 0.1 * i} for i in range(8)]
    assert best_score(val, [*found, *low]) == 0.9
    assert best_score(val, []) == 0.5


def test_colours_tell_what_went_wrong(
    val: Split, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    records = choose(val, found, count=1, worst=True)
    assert records[0]["image_id"] == found[-1]["image_id"]
    assert [r["image_id"] for r in choose(val, found, count=2, ids=["5", 15])] == [5, 15]
    with pytest.raises(ValueError, match="no image with id 4"):
        choose(val, found, count=1, ids=[4])
    pixels = np.asarray(Image.open(draw(val, records, found, tmp_path / "a.png")))
    half = pixels.shape[1] // 2
    present = [
        {tuple(c) for c in side.reshape(-1, 3).tolist()}
        for side in (pixels[:, :half], pixels[:, half:])
    ]
    assert MISSED in present[0]
    assert {HIT, WRONG} <= present[1]
    assert not {HIT, WRONG} & present[0]


def test_curves_are_drawn(val: Split, found: list[dict[str, Any]], tmp_path: Path) -> None:
    for name, count in (("some", len(found)), ("none", 0)):
        path = draw_curves(val.read_ground_truth(), found[:count], tmp_path / f"{name}.png")
        assert Image.open(path).size[0] > 500


def test_predictions_of_a_run_or_a_file_are_read(
    val: Split, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    plain = [{**f, "segmentation": None} for f in found]
    path = tmp_path / "coco_instances_results.json"
    path.write_text(json.dumps(plain))
    assert read_predictions(tmp_path) == read_predictions(path) == plain
    assert read_val(path, val.json_file).classes == val.classes
    with pytest.raises(ValueError, match="give --annotations"):
        read_val(path)
    path.write_text('[{"score": 1}]')
    with pytest.raises(ValueError, match="lack image_id"):
        read_predictions(path)
    with pytest.raises(FileNotFoundError, match="no predictions"):
        read_predictions(tmp_path / "elsewhere")
