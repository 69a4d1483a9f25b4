"""The table of released models: missing ones are named, those that are here are measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")
from tests.transfer.segmentation.conftest import CUSTOM, write_scenes
from tools import canary
from tools.golden import read_case
from tools.golden.classifiers import content_of
from tools.golden.segmentors import options, write_release
from transfer.results.record import find_results, read_result
from transfer.results.table import build_table, to_markdown
from transfer.weights.classifiers import synsets
from transfer.weights.detectors import detectors
from transfer.weights.releases import classifiers, releases, segmentors

GOLDEN = Path(__file__).parents[1] / "golden"
NAME = "convnext_tiny_1k_512"


@pytest.fixture
def words(tmp_path):
    """The command line on four scenes, with a small release under a published name."""
    write_scenes(tmp_path / "data", 4, seed=1)
    (tmp_path / "weights").mkdir()
    case = read_case(GOLDEN / "upernet_convnext")
    write_release(case, tmp_path / "weights" / segmentors()[NAME].file)
    more = [o for o in options(case) if not o.startswith("data_root")]
    places = ["--data", tmp_path / "data", "--weights", tmp_path / "weights"]
    test = [
        "--config",
        CUSTOM,
        "--cfg-options",
        *more,
        "scale=(256, 64)",
        "batch_size=1",
        "tta.ratios=[1.0]",
        "tta.flip=False",
    ]
    return ["--only", NAME, "mmseg_r50_160k_512", *places, "--out", tmp_path / "out", *test]


def test_measured_beside_published(run, words, tmp_path):
    status, out, _ = run(canary, *words)
    report = tmp_path / "out" / NAME / "released.json"
    miou = json.loads(report.read_text())["metrics"]["mIoU"]
    several = tmp_path / "out" / f"{NAME}-multi-scale" / "released.json"
    more = json.loads(several.read_text())
    assert more["protocol"]["tta"]
    assert status == 1
    assert f"differs by {miou - 46.0:+.2f}" in out
    assert f"differs by {more['metrics']['mIoU'] - 46.7:+.2f}" in out
    assert "weights not here" in out
    assert "mmseg_r50_160k_512: get https://" in out
    records = [read_result(path) for path in find_results([tmp_path / "out"])]
    assert {record.method for record in records} == {"supervised"}
    assert {record.train["framework"] for record in records} == {"released"}
    assert f"{miou:.1f}" in to_markdown(build_table(records))
    before = report.stat().st_mtime_ns
    assert run(canary, *words)[:2] == (1, out)
    assert report.stat().st_mtime_ns == before


def test_a_report_of_another_test_is_refused(run, words):
    run(canary, "--single-scale", *words)
    status, _, err = run(canary, "--single-scale", *words, "stride=(32,32)")
    assert (status, err.count("\n")) == (2, 1)
    assert "is of another file or test" in err


def test_a_broken_file_is_its_rows_verdict(run, words, tmp_path):
    file = tmp_path / "weights" / segmentors()[NAME].file
    torch.save({"state_dict": {"a": torch.zeros(2)}}, file)
    status, out, _ = run(canary, *words)
    assert status == 1
    assert "refused" in out


def test_nothing_is_here(run, tmp_path):
    status, out, _ = run(canary, "--data", tmp_path, "--weights", tmp_path)
    assert status == 0
    whole = len(segmentors()) + len(detectors())
    assert out.count(": get https://") == whole + len(classifiers())
    several = sum("mIoU_ms" in release.published for release in segmentors().values())
    assert out.count("weights not here") == whole + len(detectors()) + several + len(classifiers())


def test_a_classifier_beside_what_is_published(run, tmp_path):
    name = "mae_vit_base_ft1k"
    case = read_case(GOLDEN / "classifier_mae", dtype=torch.float32)
    rows = torch.arange(1000) % 7
    more = {n: case.weights[n][rows].clone() for n in ("head.weight", "head.bias")}
    weights = {**case.weights, **more}
    (tmp_path / "weights").mkdir()
    content = content_of(replace(case, weights=weights))
    torch.save(content, tmp_path / "weights" / releases()[name].file)
    words = ["--only", name, "--data", tmp_path, "--weights", tmp_path / "weights"]
    words += ["--out", tmp_path / "out"]
    assert "data not here" in run(canary, *words)[1]
    for label in synsets(1000)[:2]:
        place = tmp_path / "imagenet" / "val" / label / "0.png"
        place.parent.mkdir(parents=True)
        Image.new("RGB", (90, 80), (40, 90, 200)).save(place)
    words += ["--imagenet", tmp_path / "imagenet", "--classifier-options", "workers=0"]
    status, out, _ = run(canary, *words)
    record = read_result(tmp_path / "out" / name)
    assert status == 1
    assert f"differs by {record.metrics['top1'] - 83.664:+.3f}" in out
    assert record.method == "mae"
    assert run(canary, *words)[:2] == (status, out)


def test_an_unknown_name_is_one_line(run, tmp_path):
    status, _, err = run(canary, "--data", tmp_path, "--only", "convnext_tiny_1k_51")
    assert (status, err.count("\n")) == (2, 1)
    assert NAME in err


@pytest.mark.parametrize(
    ("published", "measured", "told"),
    [
        (53.6, 53.61, "equal"),
        (53.6, 53.649, "equal"),
        (53.6, 53.66, "differs by +0.06"),
        (53.08, 53.07, "differs by -0.01"),
        (46.0, 45.96, "equal"),
    ],
)
def test_equal_is_equal_as_published(published, measured, told):
    assert canary.verdict(published, measured) == told
