"""Every finding of the attack is held by cases or tests that exist, and every tool by cases."""

import ast
import fnmatch
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
pytest.importorskip("mmseg")

from tests.campaign.cases import all_cases
from tests.campaign.findings import FINDINGS

TESTS = Path(__file__).parent
LEAST = 600  # cases


@cache
def names() -> tuple[str, ...]:
    return tuple(case.name for case in all_cases())


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("finding", FINDINGS)
def test_what_holds_a_finding_exists(finding):
    for held in FINDINGS[finding]:
        file, is_test, function = held.partition("::")
        found = function in functions(file) if is_test else fnmatch.filter(names(), held)
        assert found, f"{held} is named for {finding!r} and does not exist"


def test_the_campaign_has_its_cases():
    assert len(names()) == len(set(names())) >= LEAST
