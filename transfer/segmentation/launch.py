"""Several processes: torchrun's, or Slurm's tasks, as one group before anything else is done."""

import os

import torch
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch import distributed

from pretrain.run.processes import cluster_environment

LAUNCHERS: dict[str, type[ClusterEnvironment]] = {
    "pytorch": TorchElasticEnvironment,
    "slurm": SLURMEnvironment,
}
STARTED_BY = {"pytorch": "torchrun", "slurm": "srun"}


def join_processes(launcher: str = "auto") -> int:
    """Join the other processes where there are any; return how many there are.

    `launcher`: "auto" looks for torchrun, then for srun; "none" is alone; "pytorch" (torchrun) and
    "slurm" (srun) must be there. ValueError where they are not.
    """
    cluster = LightningEnvironment() if launcher == "none" else cluster_environment()
    if launcher in LAUNCHERS and not isinstance(cluster, LAUNCHERS[launcher]):
        tool = STARTED_BY[launcher]
        raise ValueError(f"--launcher {launcher}: {tool} did not start this: start with {tool}")
    if isinstance(cluster, LightningEnvironment):
        return 1
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(cluster.local_rank() % torch.cuda.device_count())
        os.environ |= {"MASTER_ADDR": cluster.main_address, "MASTER_PORT": str(cluster.main_port)}
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            rank=cluster.global_rank(),
            world_size=cluster.world_size(),
        )
    return distributed.get_world_size()
