"""A released detector, from the command line to its figures: those of Detectron2's own code."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transfer.detection")  # puts back what Detectron2 imports
pytest.importorskip("detectron2")
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model

from tools import canary, evaluate_released
from tools.golden import read_case
from tools.golden.detectors import write_release
from transfer.detection.released import CONFIGS
from transfer.results.record import read_result
from transfer.weights.detectors import detectors
from transfer.weights.releases import releases

GOLDEN = Path(__file__).parents[1] / "golden"
CATEGORIES = [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}, {"id": 9, "name": "post"}]
NAME = "detectron2_r50_fpn_3x"
CONFIG = CONFIGS / "resnet50_1x.py"


@pytest.fixture
def release(tmp_path):
    """A small release, under a published name."""
    path = tmp_path / "weights" / detectors()[NAME].file
    path.parent.mkdir()
    write_release(read_case(GOLDEN / "detectron2_resnet"), path)
    return path


@pytest.fixture
def coco(tmp_path):
    """A folder like COCO's: three images of random colours, three categories, an object each."""
    root = tmp_path / "data" / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    rng = np.random.default_rng(1)
    images, objects = [], []
    for i, (width, height) in enumerate([(128, 96), (100, 120), (120, 80)]):
        pixels = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        pixels.resize((width, height)).save(root / "val2017" / f"{i}.png")
        images.append({"id": 139 + i, "file_name": f"{i}.png", "width": width, "height": height})
        square = {"bbox": [8, 8, 40, 40], "segmentation": [[8, 8, 48, 8, 48, 48, 8, 48]]}
        found = {"id": i + 1, "image_id": 139 + i, "category_id": CATEGORIES[i]["id"], "area": 1600}
        objects.append({**found, **square, "iscrowd": 0})
    content = {"images": images, "annotations": objects, "categories": CATEGORIES}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def official(release, coco, tmp_path):
    """official() -> Detectron2's own figures for the release, by task, and its detections."""
    cfg = get_cfg()  # Base-RCNN-FPN.yaml and mask_rcnn_R_50_FPN_3x.yaml, but for the sizes
    model = cfg.MODEL
    model.DEVICE, model.MASK_ON, model.RESNETS.DEPTH = "cpu", True, 50
    model.BACKBONE.NAME = "build_resnet_fpn_backbone"
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.PRE_NMS_TOPK_TEST = model.RPN.POST_NMS_TOPK_TEST = 1000
    model.ROI_HEADS.NAME = "StandardROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 2
    model.ROI_BOX_HEAD.POOLER_RESOLUTION, model.ROI_MASK_HEAD.POOLER_RESOLUTION = 7, 14
    model.ROI_MASK_HEAD.NAME, model.ROI_MASK_HEAD.NUM_CONV = "MaskRCNNConvUpsampleHead", 4
    model.RESNETS.RES2_OUT_CHANNELS, model.RESNETS.WIDTH_PER_GROUP = 16, 4
    model.FPN.OUT_CHANNELS, model.ROI_HEADS.NUM_CLASSES = 12, 3
    model.ROI_BOX_HEAD.FC_DIM, model.ROI_MASK_HEAD.CONV_DIM = 16, 8
    cfg.DATALOADER.NUM_WORKERS = 0
    net = build_model(cfg).eval()
    DetectionCheckpointer(net).load(str(release))

    def evaluate(name):
        annotations = coco / "annotations" / "instances_val2017.json"
        register_coco_instances(name, {}, str(annotations), str(coco / "val2017"))
        try:
            loader = build_detection_test_loader(cfg, name)
            out = tmp_path / name
            evaluator = COCOEvaluator(name, ("bbox", "segm"), False, str(out), use_fast_impl=False)
            figures = inference_on_dataset(net, loader, evaluator)
            return figures, json.loads((out / "coco_instances_results.json").read_text())
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)

    return evaluate


def take_as_truth(coco, detections):
    """Make every fifth detection an object, so that AP is not zero."""
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [
        {
            "id": number,
            **{k: d[k] for k in ("image_id", "category_id", "bbox", "segmentation")},
            "area": d["bbox"][2] * d["bbox"][3],
            "iscrowd": 0,
        }
        for number, d in enumerate(detections[2::5], start=1)
        if min(d["bbox"][2:]) > 3
    ]
    path.write_text(json.dumps(content))


def test_figures_are_those_of_detectron2(run, official, release, coco, tmp_path):
    """The release through the tool, at the zoo's own sizes, and through Detectron2's code."""
    _, detections = official("first")
    take_as_truth(coco, detections)
    wanted, detections = official("again")
    words = ["--data", coco.parent, "--work-dir", tmp_path / "out", "--config", CONFIG]
    status, out, err = run(
        evaluate_released, release, *words, "--cfg-options", "train.workers=0", "train.device=cpu"
    )
    assert status == 0, err
    report = json.loads((tmp_path / "out" / "released.json").read_text())
    metrics = report["metrics"]
    found = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert [d["category_id"] for d in found] == [d["category_id"] for d in detections]
    for ours, theirs in zip(found, detections, strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
    for task, name in (("bbox", "box"), ("segm", "mask")):
        assert 5 < wanted[task]["AP"] < 95
        for figure in ("AP", "AP50", "AP75"):
            assert metrics[f"{figure}_{name}"] == pytest.approx(wanted[task][figure], abs=1e-6)
    assert f"AP_box {metrics['AP_box']:.2f}" in out
    assert "published: AP_box 41.0  AP_mask 37.2 (facebookresearch/detectron2" in out
    assert report["layout"] == "detectron2_resnet"
    record = read_result(tmp_path / "out")
    assert (record.task, record.metrics) == ("detection", metrics)
    assert "released by its authors (facebookresearch/detectron2" in record.notes[0]


def test_the_table_has_a_row_a_figure(run, release, coco, tmp_path):
    words = [
        "--data",
        coco,
        "--only",
        NAME,
        "vitdet_base",
        "--weights",
        release.parent,
        "--out",
        tmp_path / "out",
    ]
    test = ["--coco-config", CONFIG, "--coco-options", "train.workers=0", "train.device=cpu"]
    status, out, _ = run(canary, *words, *test)
    assert (status, out.count("data not here"), out.count("weights not here")) == (0, 2, 2)
    status, out, _ = run(canary, *words, "--coco", coco.parent, *test)
    assert status == 1
    metrics = json.loads((tmp_path / "out" / NAME / "released.json").read_text())["metrics"]
    assert f"differs by {metrics['AP_box'] - 41.0:+.2f}" in out
    assert f"differs by {metrics['AP_mask'] - 37.2:+.2f}" in out
    assert run(canary, *words, "--coco", coco.parent, *test)[:2] == (1, out)


def test_a_file_for_other_classes_is_one_line(run, release, coco, tmp_path):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    fewer = {name: content[name][:2] for name in ("categories", "annotations")}
    path.write_text(json.dumps({**content, **fewer}))
    words = ["--data", coco.parent, "--work-dir", tmp_path / "out", "--config", CONFIG]
    status, _, err = run(evaluate_released, release, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "has 3 classes, the data set has 2" in err
    status, _, err = run(evaluate_released, release, *words[:-2])
    assert (status, err.count("\n")) == (2, 1)
    assert "no shipped config is that of resnet50" in err


def test_a_name_says_where_to_get_the_file(run, tmp_path):
    status, _, err = run(evaluate_released, "vitdet_large", "--data", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "get it from https://dl.fbaipublicfiles.com/detectron2/ViTDet/COCO/" in err


def test_the_manifest_is_whole():
    known = detectors()
    assert len(known) == len({r.file for r in known.values()}) == 19
    for release in known.values():
        assert release.url.endswith("/" + release.file)
        assert release.sha256 == "unknown" or len(release.sha256) == 64
        assert release.started_from is None or release.started_from in releases()
        assert 30 < release.published["AP_mask"] < release.published["AP_box"] < 60
