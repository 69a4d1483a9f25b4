"""evaluate, show_predictions and the benchmarks, on small things."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")
from tests.transfer.detection.conftest import CONFIG, TINY, draw_split
from tools import evaluate, show_predictions
from tools.benchmarks import coco_eval, detection
from transfer.detection.config import load_config
from transfer.detection.evaluation.matching import to_rle
from transfer.detection.run import run as train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("run")
    overrides = [*TINY, "schedule.steps=1", "model.score_threshold=0.0", f"output_dir={root}/out"]
    for seed, name in enumerate(("train", "val")):
        path, images = draw_split(root / name, 2, seed)
        overrides += [f"data.{name}_json={path}", f"data.{name}_images={images}"]
    train(load_config(CONFIG, overrides))
    return root / "out"


def test_evaluation_can_be_repeated(
    run: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path
) -> None:
    expected = json.loads((finished / "result.json").read_text())["metrics"]
    for engine in ("faster-coco-eval", "pycocotools"):
        out = tmp_path / f"{engine}.json"
        code, told, _ = run(evaluate, finished, "--engine", engine, "--json", out)
        assert code == 0
        assert f"evaluated by {engine}" in told
        assert json.loads(out.read_text())["metrics"] == pytest.approx(expected, abs=1e-9)
    code, _, error = run(evaluate, tmp_path)
    assert code == 2
    assert error.startswith("error: no predictions")


@pytest.mark.parametrize("engine", ["faster-coco-eval", "pycocotools"])
def test_evaluation_takes_ids_as_they_are_written(
    run: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path, engine: str
) -> None:
    run_file = json.loads((finished / "run.json").read_text())
    truth = json.loads(Path(run_file["paths"]["val_json"]).read_text())
    for image in truth["images"]:
        image["id"] = str(image["id"])
    found = []
    for thing in truth["annotations"]:
        thing["image_id"] = str(thing["image_id"])
        code = to_rle(thing, (64, 64))
        mask = {**code, "counts": code["counts"].decode()}
        if not thing["iscrowd"]:
            found.append({**thing, "score": 0.9, "segmentation": mask})
    annotations, predictions, out = (tmp_path / f"{n}.json" for n in ("truth", "found", "out"))
    annotations.write_text(json.dumps(truth))
    predictions.write_text(json.dumps(found))
    arguments = (predictions, "--annotations", annotations, "--engine", engine, "--json", out)
    assert run(evaluate, *arguments)[0] == 0
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["AP_box"] == metrics["AP_mask"] == 100
    predictions.write_text(json.dumps([{**d, "image_id": int(d["image_id"])} for d in found]))
    assert run(evaluate, *arguments)[0] == 2


def test_predictions_are_shown(
    run: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path
) -> None:
    out, curves = tmp_path / "p.png", tmp_path / "c.png"
    code, told, _ = run(show_predictions, finished, "--out", out, "--curves", curves, "--worst")
    assert (code, told.split()) == (0, [str(out), str(curves)])
    assert out.stat().st_size > 1000
    assert run(show_predictions, tmp_path)[0] == 2
    code, _, error = run(show_predictions, finished, "--images")
    assert code == 2
    assert "--images names no image" in error


def test_the_evaluation_benchmark_agrees_and_counts() -> None:
    result = coco_eval.run(coco_eval.Arguments(images=5, detections=200, side=64))
    assert result["detections"] == 200
    for task in ("box", "mask"):
        assert result[task]["largest_difference"] < 1e-9
        assert result[task]["ratio"] > 0


def test_the_detection_benchmark_times_two_equal_nets() -> None:
    ours = detection._our_resnet("resnet50").eval()
    theirs = detection._their_resnet("resnet50", ours).eval()
    assert type(ours.backbone.bottom_up) is not type(theirs.backbone.bottom_up)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, expected = ours.backbone(image), theirs.backbone(image)
    for name in expected:
        scale = expected[name].abs().max()
        torch.testing.assert_close(maps[name] / scale, expected[name] / scale, rtol=0, atol=1e-5)
