"""Two processes on a CPU train the net that one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from transfer.record import read_result
from transfer.segmentation.config import load_config
from transfer.segmentation.train import run


@pytest.mark.timeout(600)
def test_two_processes_equal_one(tiny, tmp_path):
    config = tmp_path / "config.py"  # AdamW's step would blow rounding up to the learning rate
    text = "optim_wrapper = dict(optimizer=dict(eps=1.0))"
    config.write_text(
        f"_base_ = [{str(Path('configs/segmentation/custom.py').resolve())!r}]\n{text}"
    )
    options = [*tiny, "model.decode_head.dropout_ratio=0", "model.auxiliary_head.dropout_ratio=0",
               "drop_path=0.0", "max_iters=3", "lr=1.0"]  # fmt: skip
    one = run(load_config(config, options), tmp_path / "one")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "tools/train_seg.py", config, "--work-dir", tmp_path / "two",
        "--cfg-options", *options,
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=env, capture_output=True, timeout=500)
    states = [
        torch.load(tmp_path / name / "last.pth", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    two = read_result(tmp_path / "two")
    assert two.metrics["aAcc"] == pytest.approx(one.metrics["aAcc"], abs=0.5)
    assert not two.notes
