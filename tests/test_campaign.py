"""A sample of the campaign of bad inputs; `make campaign` runs all of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
pytest.importorskip("mmseg")

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(600)
def test_a_sample_of_bad_inputs_each_gets_one_clear_error() -> None:
    command = [sys.executable, "-m", "tests.campaign", "--jobs", "1", "--every", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
