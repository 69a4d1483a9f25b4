"""Arguments of make_shapes: --for gives all of them, single ones change it."""

import pytest

from tools import make_shapes
from transfer.datasets.shapes.files import PURPOSES, ShapesSettings


def parsed(monkeypatch, *arguments: str) -> ShapesSettings:
    monkeypatch.setattr("sys.argv", ["make_shapes.py", "--out", "x", *arguments])
    return make_shapes.parse()[1]


def test_a_purpose_and_what_changes_it(monkeypatch):
    assert parsed(monkeypatch) == ShapesSettings()
    assert parsed(monkeypatch, "--for", "benchmark") == PURPOSES["benchmark"]
    demo = parsed(monkeypatch, "--for", "demo", "--zoom", "1.5", "--classes", "9", "--train", "7")
    assert (demo.level, demo.side, demo.rules.classes, demo.train) == ("easy", 192, 9, 7)


@pytest.mark.parametrize(
    "wrong", [("--classes", "4"), ("--level", "x"), ("--zoom", "0.2"), ("--val", "0")]
)
def test_what_cannot_be_drawn_is_refused(monkeypatch, wrong):
    with pytest.raises(SystemExit):
        parsed(monkeypatch, *wrong)
