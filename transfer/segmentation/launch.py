"""Several processes: torchrun's, or Slurm's tasks, as one group before anything else is done."""

import os

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment
from torch import distributed


def join_processes(launcher: str) -> int:
    """Join the other processes where there are any; returns how many there are.

    Raises ValueError where the launcher's environment variables are not there.
    """
    if launcher == "none":
        return 1
    if launcher == "slurm":
        use_slurm_tasks()
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]
    if missing:
        raise ValueError(f"--launcher pytorch needs {', '.join(missing)}: start with torchrun")
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(device_number())
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_world_size()


def device_number() -> int:
    """Return which of the GPUs that this process sees is its own.

    `srun --gpus-per-task=1` shows each task its own GPU alone, which is then number 0 for all.
    """
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def use_slurm_tasks() -> None:
    """Set torch's environment variables from those of `srun`."""
    if not SLURMEnvironment.detect():
        raise ValueError("--launcher slurm finds no Slurm task: start with srun")
    try:
        slurm = SLURMEnvironment()
    except RuntimeError as error:  # --ntasks instead of --ntasks-per-node
        raise ValueError(str(error)) from error
    os.environ |= {
        "RANK": str(slurm.global_rank()),
        "WORLD_SIZE": str(slurm.world_size()),
        "LOCAL_RANK": str(slurm.local_rank()),
        "MASTER_ADDR": slurm.main_address,
        "MASTER_PORT": str(slurm.main_port),
    }
