"""Arguments of make_shapes: --for gives all of them, single ones change it."""

from pathlib import Path

import pytest
import tyro

from tools.make_shapes import Arguments, settings_of
from transfer.datasets.shapes.files import PURPOSES, ShapesSettings


def parsed(*words: str) -> ShapesSettings:
    return settings_of(tyro.cli(Arguments, args=["--out", "x", *words]))


def test_a_purpose_and_what_changes_it() -> None:
    assert parsed() == ShapesSettings()
    assert parsed("--for", "benchmark") == PURPOSES["benchmark"]
    demo = parsed("--for", "demo", "--zoom", "1.5", "--classes", "9", "--train", "7")
    assert (demo.level, demo.side, demo.rules.classes, demo.train) == ("easy", 192, 9, 7)


@pytest.mark.parametrize("words", [("--zoom", "0.2"), ("--val", "0")])
def test_what_cannot_be_drawn_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        parsed(*words)


def test_a_place_to_write_is_needed() -> None:
    with pytest.raises(ValueError, match="--picture FILE"):
        settings_of(Arguments())
    assert settings_of(Arguments(picture=Path("x.png"))) == ShapesSettings()


def test_an_unknown_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--classes", "4")
    assert "--classes" in capsys.readouterr().err
