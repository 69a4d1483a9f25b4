"""tools/benchmark.py: the first word picks the benchmark, the others are its options."""

import json
import os
import sys

import pytest

pytest.importorskip("pycocotools")


@pytest.fixture
def main(monkeypatch):
    """Return the tool's main; importing it changes sys.path, which is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    from tools.benchmark import main

    return main


def test_a_benchmark_runs_and_writes_its_figures(main, tmp_path, capsys):
    sizes = ["--images", "5", "--detections", "200", "--side", "64"]
    assert main(["coco-eval", *sizes, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["images"], figures["detections"]) == (5, 200)
    assert "faster-coco-eval" in capsys.readouterr().out


def test_threads_are_set_before_the_benchmark_is_imported(main, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as ended:  # --method is missing
        main(["pretrain", "--threads", "2"])
    assert ended.value.code == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "--method" in capsys.readouterr().err


def test_an_unknown_name_or_option_is_status_2(main, capsys):
    assert main(["coco"]) == 2
    assert "coco-eval" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["coco-eval", "--picture", "5"])
    assert ended.value.code == 2
    assert main(["--help"]) == 0
    assert "segmentation" in capsys.readouterr().out
