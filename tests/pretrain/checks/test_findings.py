"""Codes of findings: all of them are known, and a config can allow no other."""

import ast
from pathlib import Path

import pytest

from pretrain.checks.findings import CODES, Finding, refuse_errors

ROOT = Path(__file__).resolve().parents[3]
MADE_UP = {  # f"{...}-outside" and the like
    *(f"{what}-{how}" for what in ("box", "polygon") for how in ("outside", "over-edge")),
    *(f"{what}-id-twice" for what in ("image", "annotation", "category")),
}


def codes_in_the_source() -> set[str]:
    """Return the literal codes given to Findings.error and Findings.warning: four arguments."""
    found = set()
    for top in ("pretrain", "transfer"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if node.func.attr in ("error", "warning") and len(node.args) == 4:
                    code = node.args[0]
                    if isinstance(code, ast.Constant) and " " not in str(code.value):
                        found.add(str(code.value))
    return found


def test_every_code_is_known_and_used() -> None:
    assert codes_in_the_source() | MADE_UP == CODES


def test_only_a_known_code_can_be_allowed() -> None:
    finding = Finding("error", "box-empty", "x", "y", "z")
    refuse_errors([finding], allow=["box-empty"])
    with pytest.raises(ValueError, match="called 'box-emty'; did you mean 'box-empty'"):
        refuse_errors([finding], allow=["box-emty"])
