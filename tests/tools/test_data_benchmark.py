"""The benchmark of data measures what it says, on a few hundred made-up images."""

import json
from pathlib import Path

import pytest

from tools.benchmarks import data, pipelines


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take seconds to start; IMAGES_A_ROUND images take as long to crop."""
    monkeypatch.setattr(data, "in_new_process", lambda work, *given: work(*given))
    monkeypatch.setattr(pipelines, "IMAGES_A_ROUND", 2)
    monkeypatch.setenv("MIM_TRANSFER_CACHE", "")  # the benchmark sets it: put back afterwards


def test_every_part_gives_its_figures_and_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = data.Arguments(
        images=300,
        folders=3,
        shards=20,
        coco_images=20,
        coco_instances=50,
        rounds=1,
        folder=tmp_path,
    )
    figures = data.run(small)
    assert list(tmp_path.iterdir()) == []
    json.dumps(figures)
    assert figures["files"]["second"]["images"] == figures["shards"]["first"]["images"] == 300
    assert figures["growth"]["images"] == 256
    assert set(figures["pipeline"]) == {"spark", "fcmae", "beit"}
    assert (figures["coco"]["images"], figures["coco"]["instances"]) == (20, 50)
    said = capsys.readouterr().out
    for goal in ("(goal: 20 s)", "(goal: 50 MiB)", "goal: ratio 1"):
        assert goal in said
