"""A released segmentor, from the command line to its figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.transfer.segmentation.conftest import CUSTOM, write_scenes

pytest.importorskip("mmseg")
from tools import evaluate_released
from tools.golden import read_case
from tools.golden.classifiers import content_of
from tools.golden.segmentors import build, options, write_release
from transfer.results.record import read_result
from transfer.weights.releases import segmentors

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def scenes(tmp_path):
    """Four evaluation scenes of three classes; no training images."""
    write_scenes(tmp_path / "scenes", 4, seed=1)
    return tmp_path / "scenes"


@pytest.fixture
def case():
    return read_case(GOLDEN / "upernet_beit")


def arguments(case, scenes, folder):
    """A written release, and the command line that evaluates it on the scenes."""
    file = folder / "released.pth"
    write_release(case, file)
    more = [o for o in options(case) if not o.startswith("data_root")]
    sizes = ["scale=(256, 64)", "batch_size=1"]
    places = [file, "--data", scenes, "--work-dir", folder / "out", "--config", CUSTOM]
    return [*places, "--cfg-options", *more, *sizes]


def test_figures_are_those_of_the_network(run, case, scenes, tmp_path):
    status, out, _ = run(evaluate_released, *arguments(case, scenes, tmp_path))
    assert status == 0
    report = json.loads((tmp_path / "out" / "released.json").read_text())
    assert out.startswith(f"mIoU {report['metrics']['mIoU']:.2f}")
    assert "differs: relative position indices are computed, not read" in out
    assert (report["layout"], report["class_order"]) == ("unilm_beit", "the file's names")
    assert report["metrics"]["aAcc"] == pytest.approx(accuracy(case, scenes, tmp_path))


def test_published_figures_stand_beside(run, case, scenes, tmp_path):
    words = arguments(case, scenes, tmp_path)
    file = words[0].rename(tmp_path / "beit_base_patch16_640_pt22k_ft22ktoade20k.pth")
    status, out, _ = run(evaluate_released, file, *words[1:])
    assert status == 0
    assert "published: mIoU 53.6  mIoU_ms 54.2 (microsoft/unilm" in out


def test_a_name_says_where_to_get_the_file(run, scenes):
    status, _, err = run(evaluate_released, "convnext_tiny_1k_512", "--data", scenes)
    assert (status, err.count("\n")) == (2, 1)
    assert "get it from https://dl.fbaipublicfiles.com/convnext/ade20k/" in err
    assert "put it at weights/upernet_convnext_tiny_1k_512x512.pth" in err
    status, _, err = run(evaluate_released, "convnext_tiny_512", "--data", scenes)
    assert (status, err.count("\n")) == (2, 1)
    assert "convnext_tiny_1k_512" in err


def test_a_classifier_ends_in_figures_and_a_record(run, tmp_path):
    case = read_case(GOLDEN / "classifier_convnextv2")
    write_scenes_of_classes(tmp_path / "data", "abcdefg")
    file = tmp_path / "convnextv2_atto_1k_224_ema.pt"
    torch.save(content_of(case), file)
    words = [file, "--data", tmp_path / "data", "--work-dir", tmp_path / "out", "--cfg-options"]
    words += ["input_size=64", "workers=0", "dataset=letters"]
    status, out, _ = run(evaluate_released, *words)
    record = read_result(tmp_path / "out")
    assert status == 0
    assert out.startswith(f"top1 {record.metrics['top1']:.2f}")
    assert "published: top1 76.7 (facebookresearch/ConvNeXt-V2 2553895, README.md)" in out
    assert "tested by facebookresearch/ConvNeXt 048efce, datasets.py" in out
    assert (record.method, record.dataset.name) == ("fcmae+supervised", "letters")
    status, _, err = run(evaluate_released, *words)
    assert (status, err.count("\n")) == (2, 1)
    status, _, err = run(evaluate_released, "convnextv2_tiny_1k", "--data", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "get it from https://dl.fbaipublicfiles.com/convnext/convnextv2/im1k/" in err
    status, _, err = run(evaluate_released, "spark_resnet50", "--data", tmp_path)
    assert (status, err.count("\n")) == (2, 1)


def write_scenes_of_classes(data, labels):
    """Write one validation image a class."""
    for number, label in enumerate(labels):
        place = data / "val" / label / "0.png"
        place.parent.mkdir(parents=True)
        Image.new("RGB", (90, 80), (30 * number, 90, 200)).save(place)


def test_the_manifest_is_whole():
    known = segmentors()
    assert len(known) == len({r.file for r in known.values()}) == 25
    for release in known.values():
        assert release.url.endswith("/" + release.file)
        assert release.sha256 == "unknown" or len(release.sha256) == 64
        assert 40 < release.published["mIoU"] < release.published.get("mIoU_ms", 100)


def accuracy(case, scenes, folder):
    """Percent of right pixels, computed without the runner."""
    model = build(case, folder / "again.pth")
    right = []
    for path in sorted((scenes / "images" / "val").iterdir()):
        label = np.asarray(Image.open(scenes / "labels" / "val" / path.name))
        image = np.asarray(Image.open(path))[..., ::-1].copy()  # BGR
        data = {"inputs": [torch.from_numpy(image).permute(2, 0, 1)]}
        pixels = model.data_preprocessor(data, False)["inputs"]
        told = [{"ori_shape": label.shape, "img_shape": label.shape}]
        with torch.no_grad():
            right.append(model.inference(pixels, told)[0].argmax(0).numpy() == label)
    return 100 * np.mean(right)


def test_user_errors_are_one_line(run, case, scenes, tmp_path):
    words = arguments(case, scenes, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "released.json").write_text("{}")
    status, _, err = run(evaluate_released, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "is there already" in err
    status, _, err = run(evaluate_released, words[0], "--data", scenes)
    assert (status, err.count("\n")) == (2, 1)
    assert "no shipped config is that of beit_base_patch16_224" in err
    status, _, err = run(evaluate_released, *words, "arch=resnet50")
    assert (status, err.count("\n")) == (2, 1)
    assert "the network is the file's" in err
