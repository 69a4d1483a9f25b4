"""A small run of each trainer logs what it did when tests/losses/ was written.

After a change that is meant to move the numbers: python tests/losses/renew.py
"""

import math

import pytest

from tests.losses.renew import COMMANDS, HERE, Difference, compare, read_pinned, run

FRAMEWORKS = {"detection": "detectron2", "segmentation": "mmseg"}
TOLERANCE = 1e-4  # relative; instruction sets from SSE to AVX-512 differ by up to 2e-5
# a rounding error decides these at the kinks of ReLU and where two classes are equally likely
GRADIENT_NORM_TOLERANCE = 2e-2  # instruction sets differ by up to 7e-3
METRIC_TOLERANCE = 1e-2  # instruction sets differ by up to 9e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that others start from are made once."""
    return tmp_path_factory.mktemp("losses")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_numbers_are_those_pinned(name, folder):
    if name in FRAMEWORKS:
        pytest.importorskip(FRAMEWORKS[name])
    pinned, now = read_pinned(name), run(name, folder)
    wrong = [str(d) for d in compare(pinned, now) if not d.relative <= tolerance(d.place)]
    assert not wrong, "\n".join([*wrong, changed_versions(pinned, now)])


def tolerance(place: str) -> float:
    if place.startswith("losses.gradient_norm"):
        return GRADIENT_NORM_TOLERANCE
    return METRIC_TOLERANCE if place.startswith("metrics.") else TOLERANCE


def changed_versions(pinned, now) -> str:
    """Say what else than the code may be the cause."""
    before, after = pinned["ran"]["with"], now["ran"]["with"]
    changed = [f"{n} {before.get(n)} -> {after[n]}" for n in after if before.get(n) != after[n]]
    return f"versions: {', '.join(changed) or 'as pinned'}"


def test_every_trainer_is_pinned_and_nothing_else():
    assert {path.stem for path in HERE.glob("*.json")} == set(COMMANDS)


def test_no_pinned_part_is_empty_or_zero_throughout():
    for name in COMMANDS:
        pinned = read_pinned(name)
        assert all(any(values) for values in pinned["losses"].values()), name
        assert any(pinned["metrics"].values()) == (name in FRAMEWORKS), name


def test_a_number_that_moved_or_is_missing_is_seen():
    pinned = {"losses": {"loss": [2.0, 1.0]}, "metrics": {"AP": 50.0}, "weights": {}}
    now = {"losses": {"loss": [2.0, 1.5]}, "metrics": {"AP": 50.0}, "weights": {}}
    assert [d.relative for d in compare(pinned, now)] == [0, pytest.approx(1 / 3), 0]
    for shorter in ({**now, "losses": {"loss": [2.0]}}, {**now, "metrics": {}}):
        assert math.inf in [d.relative for d in compare(pinned, shorter)]
        assert math.inf in [d.relative for d in compare(shorter, pinned)]
    assert str(Difference("loss, line 2", 1.0, 1.5)).startswith("loss, line 2: 1.0 -> 1.5")
