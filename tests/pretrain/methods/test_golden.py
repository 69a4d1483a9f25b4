"""Every golden case through the code of tools/check_golden.py, and the tool's exit status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.golden import check_case, kind_of, read_case

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
SEGMENTORS = "upernet_"  # tests/transfer/segmentation/test_released.py has those
CASES = sorted(f.name for f in GOLDEN.iterdir() if f.is_dir() and not f.name.startswith(SEGMENTORS))
CONVNETS = [name for name in CASES if name.startswith(("spark", "fcmae_conv"))]


@pytest.mark.parametrize("name", CASES)
def test_case_is_reproduced(name: str) -> None:
    checks = check_case(read_case(GOLDEN / name))
    assert checks
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("name", CONVNETS)
def test_dense_reference_reproduces_it_too(name: str) -> None:
    checks = check_case(read_case(GOLDEN / name, sparse="dense"))
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("name", CONVNETS)
def test_forward_in_float32(name: str) -> None:
    """In the precision of training; gradients only up to units at a ReLU's kink."""
    checks = check_case(read_case(GOLDEN / name, dtype=torch.float32))
    assert not [c for c in checks if not c.passed and not c.name.startswith("grad:")]


def test_kinds_are_recognised() -> None:
    kinds = {name: kind_of(read_case(GOLDEN / name)) for name in CASES}
    networks = {"spark", "fcmae", "minkowski", "beit", "dalle", "classifier", "detector"}
    assert set(kinds.values()) == {*networks, "lamb", "resize"}


def test_tool_fails_on_a_changed_weight(tmp_path: Path) -> None:
    folder = tmp_path / "fcmae"
    shutil.copytree(GOLDEN / "fcmae_convnextv2", folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    weights = load_file(folder / "weights.safetensors")
    weights["proj.bias"] += 0.01
    save_file(weights, folder / "weights.safetensors")
    run = _tool(str(folder))
    assert run.returncode == 1
    assert "FAILED fcmae: prediction off by" in run.stdout


def test_tool_refuses_what_is_no_case(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(json.dumps({}))
    run = _tool(str(tmp_path))
    assert run.returncode == 2
    assert "no case.safetensors" in run.stderr


def _tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "check_golden.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
