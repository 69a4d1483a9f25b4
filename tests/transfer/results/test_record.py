"""Result records: validated, strict, written whole."""

import json

import pytest

from tests.transfer.results.test_table import record
from transfer.results.record import find_results, protocol_hash, read_result, write_result


def test_round_trip(tmp_path):
    result = record("fcmae", 100 / 3)
    write_result(result, tmp_path)
    assert read_result(tmp_path) == result


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", {"AP_box": 101.0}, "not a percentage"),
        ("metrics", {"AP_box": float("nan")}, "AP_box|JSON|finite"),
        ("metrics", {}, "at least one metric"),
        ("surprise", 1, "surprise"),
        ("schema_version", 2, "schema_version"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, field, value, message):
    path = write_result(record("fcmae", 1.0), tmp_path)
    data = json.loads(path.read_text()) | {field: value}
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        read_result(path)


def test_hash_ignores_key_order_and_sees_every_value():
    assert protocol_hash({"a": 1, "b": 2}) == protocol_hash({"b": 2, "a": 1})
    assert protocol_hash({"a": 1, "b": 2}) != protocol_hash({"a": 1, "b": 3})


def test_places_without_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run there has finished"):
        find_results([tmp_path])
    with pytest.raises(FileNotFoundError, match="missing"):
        find_results([tmp_path / "missing"])
