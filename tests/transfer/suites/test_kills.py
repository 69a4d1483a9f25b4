"""A suite killed and started twice at once, quickly; tests/kill_suite.py does it ten times."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "kill_suite.py"


@pytest.mark.timeout(300)
def test_a_killed_suite_started_twice_at_once_runs_no_step_twice(tmp_path):
    words = ("--out", tmp_path / "out", "--kills", 2, "--parts", 4, "--part-s", 0.05)
    command = [sys.executable, SCRIPT, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 steps, each ended once: yes" in done.stdout
