"""Two processes on a CPU train the net that one process trains."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from transfer.record import read_result
from transfer.segmentation.config import load_config
from transfer.segmentation.train import run

LAUNCHERS = {"torchrun": "pytorch", "srun": "slurm"}


def torchrun(command):
    """Two processes by torchrun."""
    head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*head, *command], check=True, env=env, capture_output=True, timeout=500)


def srun(command):
    """Two processes with the variables that srun gives to its tasks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": port, "SLURM_NTASKS": "2",
              "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "localhost"}  # fmt: skip
    tasks = [
        subprocess.Popen(
            [sys.executable, *command], env={**shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        )
        for rank in ("0", "1")
    ]
    assert [task.wait(500) for task in tasks] == [0, 0]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_two_processes_equal_one(tiny, tmp_path, launcher):
    config = tmp_path / "config.py"  # AdamW's step would blow rounding up to the learning rate
    text = "optim_wrapper = dict(optimizer=dict(eps=1.0))"
    config.write_text(
        f"_base_ = [{str(Path('configs/segmentation/custom.py').resolve())!r}]\n{text}"
    )
    options = [*tiny, "model.decode_head.dropout_ratio=0", "model.auxiliary_head.dropout_ratio=0",
               "drop_path=0.0", "max_iters=3", "lr=1.0"]  # fmt: skip
    one = run(load_config(config, options), tmp_path / "one")
    tool = ["tools/train_seg.py", config, "--work-dir", tmp_path / "two"]
    start = torchrun if launcher == "torchrun" else srun
    start([*tool, "--launcher", LAUNCHERS[launcher], "--cfg-options", *options])
    states = [
        torch.load(tmp_path / name / "last.pth", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    two = read_result(tmp_path / "two")
    assert two.metrics["aAcc"] == pytest.approx(one.metrics["aAcc"], abs=0.5)
    assert not two.notes


def test_slurm_without_slurm_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="start with srun"):
        run(load_config("configs/segmentation/custom.py", tiny), tmp_path / "out", launcher="slurm")
