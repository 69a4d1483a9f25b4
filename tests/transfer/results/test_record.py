"""Result records: validated, strict, written whole, never overwritten."""

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from tests.transfer.results.test_table import record
from transfer.results.protocol import protocol_hash
from transfer.results.record import (
    Result,
    Training,
    describe_environment,
    environment_if_other,
    fields_of,
    find_results,
    read_result,
    write_evaluation,
    write_result,
)


def test_round_trip(tmp_path):
    when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    result = record("fcmae", 100 / 3, evaluated_at=when, command="python tools/train_net.py a=1")
    write_result(result, tmp_path)
    assert read_result(tmp_path) == result


def test_where_an_evaluation_ran_is_told_where_it_is_another_place():
    here = describe_environment()
    assert environment_if_other(record("fcmae", 1.0, environment=here), "cpu") is None
    elsewhere = here.model_copy(update={"commit": "before"})
    assert environment_if_other(record("fcmae", 1.0, environment=elsewhere), "cpu") == here


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", {"AP_box": 101.0}, "not a percentage"),
        ("metrics", {"AP_box": float("nan")}, "AP_box|JSON|finite"),
        ("metrics", {"AP_box": "12"}, "AP_box.*valid number"),
        ("metrics", {"AP_box": True}, "AP_box.*valid number"),
        ("metrics", {}, "at least one metric"),
        ("surprise", 1, "surprise"),
        ("schema_version", 3, "schema_version"),
        ("schema_version", 1, "version 1.*run it again"),
        ("seed", -1, "seed.*greater than or equal to 0"),
        ("seed", True, "seed"),
        ("dataset", {"name": "x", "train_images": -1, "val_images": 1, "classes": []}, "train_im"),
        ("task", "captioning", "not one of detection"),
        ("weights", None, "weights and stages go together"),
        ("weights", {"sha256": "abc"}, "64 hex digits"),
        ("stages", [], "not that of the stages"),
        ("method", "spark", "not that of the stages"),
        ("train", {"max_iter": 7}, "train_hash is .* edited"),
        ("eval", {"tta": {}}, "eval_hash is .* edited"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, field, value, message):
    path = write_result(record("fcmae", 1.0), tmp_path)
    data = json.loads(path.read_text()) | {field: value}
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        read_result(path)


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"result\.json is not a valid record"):
        read_result(tmp_path)


def test_scratch_has_no_method_but_scratch():
    fields = fields_of(record("scratch", 1.0)) | {"method": "spark"}
    with pytest.raises(ValidationError, match="not that of the stages"):
        Training(**fields)


def test_a_later_evaluation_has_a_record_of_its_own(tmp_path):
    own = record("fcmae", 40.0)
    before = write_result(own, tmp_path).read_bytes()
    views = {"tta": {"sizes": [400, 600]}}
    measured = {"eval": views, "eval_hash": protocol_hash(views), "evaluator": "test"}
    path = write_evaluation(own, tmp_path, metrics={"AP_box": 42.0}, **measured)
    assert path == tmp_path / "evals" / f"{protocol_hash(views)}.json"
    found = read_result(path)
    assert (found.train_hash, found.seed, found.cost) == (own.train_hash, own.seed, own.cost)
    assert found.metrics == {"AP_box": 42.0}
    assert (tmp_path / "result.json").read_bytes() == before
    assert find_results([tmp_path]) == sorted([tmp_path / "result.json", path])
    write_evaluation(own, tmp_path, metrics={"AP_box": 42.0}, **measured)  # the same again
    with pytest.raises(ValueError, match="holds other figures of the same evaluation"):
        write_evaluation(own, tmp_path, metrics={"AP_box": 43.0}, **measured)
    assert read_result(path) == found


def test_an_evaluation_without_training_is_not_a_record():
    with pytest.raises(ValidationError, match="train"):
        Result(eval={}, eval_hash=protocol_hash({}), metrics={"AP_box": 1.0}, evaluator="x")


def test_places_without_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run there has finished"):
        find_results([tmp_path])
    with pytest.raises(FileNotFoundError, match="missing"):
        find_results([tmp_path / "missing"])
