"""What does not fit a schema is one sentence that names key, value and range."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from pretrain.run.schema import (
    ClosedSettings,
    Count,
    Positive,
    Settings,
    Text,
    Whole,
    described,
    require,
)


class Train(ClosedSettings):
    clip_norm: Positive | None = None
    batch_size: Count = 1
    workers: Literal["auto"] | Whole = "auto"
    sizes: Annotated[list[Count], Field(min_length=2)] = Field([1, 2])


class Top(Settings):
    train: Train
    out: Text = "out"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "train is missing"),
        ({"train": 3}, "train=3: must be keys with values"),
        ({"train": {"clip_norm": -1}}, "train.clip_norm=-1: must be above 0 or None"),
        ({"train": {"clip_norm": float("inf")}}, "train.clip_norm=inf: must be a finite number"),
        ({"train": {"batch_size": True}}, "train.batch_size=True: must be a whole number"),
        ({"train": {"batch_size": 2.0}}, "train.batch_size=2.0: must be a whole number"),
        ({"train": {"workers": -1}}, "train.workers=-1: must be 'auto' or at least 0"),
        ({"train": {"sizes": [1]}}, "train.sizes=[1]: must be of at least 2 values"),
        ({"train": {"sizes": [1, 0]}}, "train.sizes.1=0: must be at least 1"),
        (
            {"train": {"batchsize": 1}},
            "train.batchsize is not a setting; did you mean 'batch_size'?",
        ),
        ({"train": {}, "out": ""}, "out='': must be not empty"),
        (
            {"train": {"batch_size": 0}, "out": 3},
            "train.batch_size=0: must be at least 1; out=3: must be text",
        ),
    ],
)
def test_the_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        require(Top, values)
    assert str(error.value).startswith(message)


def test_what_fits_passes_and_other_keys_of_an_open_schema_are_left_alone() -> None:
    require(Top, {"train": {"workers": 3, "clip_norm": 1}, "theirs": object()})


def test_types_and_ranges_are_told_in_words() -> None:
    assert described(Top) == {
        "train": "keys with values",
        "train.clip_norm": "number, above 0 or None",
        "train.batch_size": "whole number, at least 1, at most 1e+09",
        "train.workers": "'auto' or whole number, at least 0, at most 1e+09",
        "train.sizes": "list: whole number, at least 1, at most 1e+09",
        "out": "text",
    }
