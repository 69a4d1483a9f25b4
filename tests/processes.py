"""Two processes of one command on this machine, as torchrun or Slurm's srun start them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start_two(launcher: str, command: Sequence[object]) -> str:
    """Run `command` (a tool and its arguments) twice at once; what the first process printed.

    `launcher`: "torchrun", or "srun" for the environment variables that it gives to its tasks.
    """
    words = [str(word) for word in command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if launcher == "torchrun":
        head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        tasks = [_task([*head, *words], environment)]
    else:
        slurm = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "localhost"}
        environment |= {**slurm, "MASTER_PORT": str(_free_port()), "SLURM_NODEID": "0"}
        tasks = [
            _task(
                [sys.executable, *words],
                {**environment, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            )
            for rank in range(2)
        ]
    said = [task.communicate(timeout=500) for task in tasks]
    for task, (_, errors) in zip(tasks, said, strict=True):
        assert task.returncode == 0, errors[-2000:]
    return said[0][0]


def _task(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
