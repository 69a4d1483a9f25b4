"""Processes of a run: alone, under torchrun, or as tasks of Slurm's srun.

torch and Fabric are imported where they are needed: a command line asks who is first before that,
and has nothing more to do where the run is finished.
"""

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import ClusterEnvironment

WORKERS_ON_CPU, MOST_WORKERS = 2, 16  # data processes


def is_first_process() -> bool:
    """Return whether this process is alone or the first of several, by torchrun's or srun's word.

    Known before the processes have joined, and without importing torch.
    """
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log_to_stdout() -> None:
    """Log messages of the first process to standard output, and only errors of the others."""
    level = logging.INFO if is_first_process() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)


def launch(
    device: str = "auto", precision: str = "auto", *, broadcast_buffers: bool = True
) -> "Fabric":
    """Return Fabric on one device, or on those torchrun or srun started this process for.

    broadcast_buffers: give all processes the first one's buffers before each forward pass.
    Raises ValueError for a device that is not there, or cannot compute in `precision`.
    """
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    from pretrain.run.precision import precision_plugin, resolve_precision, use_tensor_cores

    cluster = cluster_environment()
    world = cluster.world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", world)))
    cuda = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not cuda:
        raise ValueError("device=cuda, but torch sees no CUDA device")
    arithmetic = resolve_precision(precision, cuda)
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=min(local, world),
        num_nodes=max(1, world // local),
        strategy=DDPStrategy(broadcast_buffers=broadcast_buffers) if world > 1 else "auto",
        plugins=[cluster, precision_plugin(arithmetic, "cuda" if cuda else "cpu")],
    )
    fabric.launch()
    if cuda:
        torch.backends.cudnn.benchmark = True  # shapes are static
        use_tensor_cores()
    return fabric


def data_workers(workers: int | str, device: "torch.device") -> int:
    """Return how many processes read data for one device; "auto" is by the machine's cores.

    A GPU gets its share of the cores but one, 16 at most; on a CPU training needs the cores itself.
    """
    if workers != "auto":
        return int(workers)
    if device.type == "cpu":
        return WORKERS_ON_CPU
    processes = os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", 1))
    return max(1, min(MOST_WORKERS, available_cores() // int(processes) - 1))


def available_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cluster_environment() -> "ClusterEnvironment":
    """Detect the launcher. torchrun is tried before Slurm because srun may have started torchrun.

    Raises ValueError if Slurm was given --ntasks instead of --ntasks-per-node.
    """
    from lightning_fabric.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if not SLURMEnvironment.detect():
        return LightningEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # --ntasks instead of --ntasks-per-node
        raise ValueError(str(error)) from error
