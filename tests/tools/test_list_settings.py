"""configs/README.md lists what the configs say, and its one vocabulary is the configs' own."""

import re

from tools import list_settings


def test_the_page_is_what_the_configs_say():
    assert list_settings.PAGE.read_text() == list_settings.page(), "run tools/list_settings.py"


def test_the_vocabulary_names_settings_that_exist():
    known = {s.name for found in list_settings.settings().values() for s in found}
    rows = re.findall(r"^\| .*\|$", list_settings.INTRODUCTION, re.M)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named <= known, f"not a setting: {', '.join(sorted(named - known))}"
