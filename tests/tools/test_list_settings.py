"""configs/README.md lists what the configs say, and its one vocabulary is the configs' own."""

import re

import pytest

from tools import list_settings

pytest.importorskip("detectron2")
pytest.importorskip("mmseg")


def test_the_page_is_what_the_configs_say():
    assert list_settings.PAGE.read_text() == list_settings.page(), "run tools/list_settings.py"


def test_the_vocabulary_names_settings_that_exist():
    known = {s.name for found in list_settings.settings().values() for s in found}
    rows = re.findall(r"^\| .*\|$", list_settings.INTRODUCTION, re.M)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named <= known, f"not a setting: {', '.join(sorted(named - known))}"


def test_every_setting_of_ours_has_a_type():
    allowed = list_settings.allowed()
    for family, found in list_settings.settings().items():
        lacking = [s.name for s in found if s.name not in allowed[family]]
        assert not lacking, f"{family}: no type or range is declared for {', '.join(lacking)}"
