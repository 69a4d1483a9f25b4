"""Processes of a run: alone, under torchrun, or as tasks of Slurm's srun."""

import logging
import os
import sys

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)


def is_first_process() -> bool:
    """Return whether this process is alone or the first of several, by torchrun's or srun's word.

    Known before the processes have joined, and without importing torch.
    """
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log_to_stdout() -> None:
    """What the first process says; of the others only errors."""
    level = logging.INFO if is_first_process() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)


def launch(device: str = "auto", precision: str = "auto") -> Fabric:
    """Fabric on one device, or on those torchrun or Slurm's srun started this process for."""
    cluster = cluster_environment()
    world = cluster.world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", world)))
    cuda = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not cuda:
        raise ValueError("device=cuda, but torch sees no CUDA device")
    bf16 = cuda and torch.cuda.is_bf16_supported() if precision == "auto" else None
    half = precision == "bf16" or bf16
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=min(local, world),
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        plugins=[cluster],
        precision="bf16-mixed" if half else "32-true",
    )
    fabric.launch()
    if cuda:
        torch.backends.cudnn.benchmark = True  # shapes are static
    return fabric


def cluster_environment() -> ClusterEnvironment:
    """Who started this process. torchrun first: it may itself be a task of Slurm's.

    Raises ValueError where srun's tasks are not counted by node.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if not SLURMEnvironment.detect():
        return LightningEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # --ntasks instead of --ntasks-per-node
        raise ValueError(str(error)) from error
