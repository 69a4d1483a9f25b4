"""key=value: values are literals or words, and keep the kind of the setting."""

from pathlib import Path

import pytest

from pretrain.run.options import coerce_like, did_you_mean, parse_key_value, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("none", "none"),
        ("None", None),
        ("null", None),
        ("", ""),
        ("''", ""),
        ("true", True),
        ("False", False),
        ("[1, 2]", [1, 2]),
        ("on", "on"),
        ("(1, 2)", (1, 2)),
        ('{"dims": [8, 16], "flag": true}', {"dims": [8, 16], "flag": True}),
        ("/data/x.json", "/data/x.json"),
    ],
)
def test_values_are_literals_or_words(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert parse_key_value(f"key={text}") == ("key", value)


def test_a_value_runs_nothing(tmp_path: Path) -> None:
    text = f'!!python/object/apply:os.system ["touch {tmp_path / "ran"}"]'
    assert parse_value(text) == text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["lr", "=3"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form key=value"):
        parse_key_value(text)


@pytest.mark.parametrize(
    ("value", "old", "coerced"),
    [
        (1, 0.5, 1.0),
        (1e5, 3, 100000),
        (None, 3, None),
        (3, None, 3),
        (7, "word", "7"),
        ("sky,sea", ["a"], ["sky", "sea"]),
        ("96,96", (1, 1), (96, 96)),
        ([1], (1, 1), [1]),
        ({"a": 1}, {}, {"a": 1}),
        (True, False, True),
        (2, 3, 2),
    ],
)
def test_a_value_takes_the_settings_kind(value: object, old: object, coerced: object) -> None:
    found = coerce_like(value, old)
    assert found == coerced
    assert type(found) is type(coerced)


@pytest.mark.parametrize(
    ("value", "old", "expected"),
    [
        ("two", 3, "a whole number"),
        (2.5, 3, "a whole number"),
        (True, 3, "a whole number"),
        ("fast", 0.1, "a number"),
        (True, 0.1, "a number"),
        (1, True, "true or false"),
        ("maybe", False, "true or false"),
        (3, {"a": 1}, "keys and values"),
        (3, [1], "several"),
        (True, "word", "text"),
        ([1], "word", "text"),
        (float("inf"), 3, "a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: object, old: object, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{expected}.* expected, like "):
        coerce_like(value, old)


def test_the_nearest_key_is_named() -> None:
    assert did_you_mean("weigths", ["weights", "seed"]) == "; did you mean 'weights'?"
    assert did_you_mean("xyz", ["weights", "seed"]) == ""
