"""Published records hold what was measured, and no path of the machine."""

import json

import pytest

from tests.transfer.results.test_table import record
from transfer.results.publish import publish
from transfer.results.record import read_result, write_result


def runs(folder, metrics=None):
    """Two runs below a folder, one from weights that lie beside them."""
    encoder = folder / "pretrain/spark/encoder.safetensors"
    ours = record(
        "spark",
        41.0,
        weights={"sha256": "0" * 64, "file": str(encoder)},
        command=f"python tools/train_net.py weights={encoder} output_dir={folder}/spark/seed0",
    )
    if metrics:
        ours = ours.model_copy(update={"metrics": metrics})
    write_result(ours, folder / "spark/seed0")
    write_result(ours, folder / "other").rename(folder / "other/renamed.json")
    elsewhere = record(
        "spark",
        40.0,
        weights={"sha256": "1" * 64, "file": "/far/away.pth"},
        command="python tools/train_net.py weights=control:shuffled:/far/off/away.pth lr=1/2 a/b",
    )
    write_result(elsewhere, folder / "far")
    (folder / "far/log.jsonl").write_text("{}")
    return folder


def test_records_are_copied_without_the_paths_of_the_machine(tmp_path):
    source, to = runs(tmp_path / "made"), tmp_path / "published"
    assert publish(source, to) == (2, 0)
    found = sorted(p.relative_to(to).as_posix() for p in to.rglob("*") if p.is_file())
    assert found == ["far/result.json", "spark/seed0/result.json"]
    assert not any(str(tmp_path) in p.read_text() for p in to.rglob("*.json"))
    ours = read_result(to / "spark/seed0")
    assert ours.weights["file"] == "pretrain/spark/encoder.safetensors"
    assert ours.command.endswith("output_dir=made/spark/seed0")
    assert ours.metrics == read_result(source / "spark/seed0").metrics
    far = read_result(to / "far")
    assert far.weights["file"] == "away.pth"
    assert far.command.endswith("weights=control:shuffled:away.pth lr=1/2 a/b")


def test_what_is_published_is_not_written_over_unasked(tmp_path):
    source, to = runs(tmp_path / "made"), tmp_path / "published"
    publish(source, to)
    assert publish(source, to) == (0, 2)
    runs(source, metrics={"AP_box": 50.0, "AP_mask": 1.0})
    before = (to / "spark/seed0/result.json").read_bytes()
    with pytest.raises(ValueError, match="says something else"):
        publish(source, to)
    assert (to / "spark/seed0/result.json").read_bytes() == before
    assert publish(source, to, replace=True) == (1, 1)
    assert json.loads((to / "spark/seed0/result.json").read_text())["metrics"]["AP_box"] == 50.0


def test_a_record_that_is_not_valid_publishes_nothing(tmp_path):
    source, to = runs(tmp_path / "made"), tmp_path / "published"
    (source / "far/result.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a valid record"):
        publish(source, to)
    assert not to.exists()
    with pytest.raises(FileNotFoundError, match="no folder of runs"):
        publish(tmp_path / "none", to)


def test_a_control_of_a_file_names_no_folder_of_the_machine(tmp_path):
    source, to = tmp_path / "made", tmp_path / "published"
    for name, file in (("near", f"{source}/pretrain/a.safetensors"), ("far", "/far/away.pth")):
        weights = {"sha256": "0" * 64, "file": f"control:shuffled:{file}"}
        write_result(record("spark", 41.0, weights=weights), source / name)
    publish(source, to)
    said = [read_result(to / name).weights["file"] for name in ("near", "far")]
    assert said == ["control:shuffled:pretrain/a.safetensors", "control:shuffled:away.pth"]


def test_patterns_choose_the_records(tmp_path):
    source = runs(tmp_path / "made")
    assert publish(source, tmp_path / "a", only=("spark/*",)) == (1, 0)
    assert publish(source, tmp_path / "b", skip=("*seed0*",)) == (1, 0)
    found = [p.parent.name for name in "ab" for p in (tmp_path / name).rglob("*.json")]
    assert found == ["seed0", "far"]
    with pytest.raises(FileNotFoundError, match=r"none of the 2 records .* fits"):
        publish(source, tmp_path / "c", only=("beit/*",))
    assert not (tmp_path / "c").exists()


def test_records_are_not_published_among_the_runs(tmp_path):
    source = runs(tmp_path / "made")
    for to in (source, source / "published"):
        with pytest.raises(ValueError, match="would count each record twice"):
            publish(source, to, replace=True)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        publish(source, tmp_path / "file")
