"""The table of released models: missing ones are named, one that is here is measured."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmseg")
from tests.transfer.segmentation.conftest import CUSTOM, write_scenes
from tools import canary
from tools.golden import read_case
from tools.golden.segmentors import options, write_release
from transfer.weights.detectors import detectors
from transfer.weights.releases import segmentors

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
    test = ["--config", CUSTOM, "--cfg-options", *more, "scale=(256, 64)", "batch_size=1"]
    return ["--only", NAME, "mmseg_r50_160k_512", *places, "--out", tmp_path / "out", *test]


def test_measured_beside_published(run, words, tmp_path):
    status, out, _ = run(canary, *words)
    report = tmp_path / "out" / NAME / "released.json"
    miou = json.loads(report.read_text())["metrics"]["mIoU"]
    assert status == 1
    assert f"differs by {miou - 46.0:+.2f}" in out
    assert "weights not here" in out
    assert "mmseg_r50_160k_512: get https://" in out
    before = report.stat().st_mtime_ns
    assert run(canary, *words)[:2] == (1, out)
    assert report.stat().st_mtime_ns == before


def test_a_report_of_another_test_is_refused(run, words):
    run(canary, *words)
    status, _, err = run(canary, *words, "tta.on=True")
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
    known = {**segmentors(), **detectors()}
    assert out.count("weights not here") == len(known) + len(detectors())  # box and mask
    assert out.count(": get https://") == len(known)


def test_an_unknown_name_is_one_line(run, tmp_path):
    status, _, err = run(canary, "--data", tmp_path, "--only", "convnext_tiny")
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
