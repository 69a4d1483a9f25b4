"""The processes of a run: on the GPUs of --num-gpus, by torchrun or srun, or one alone."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from detectron2.utils import comm
from lightning_fabric import Fabric

from pretrain.run.processes import cluster_environment, launch

T = TypeVar("T")
MINUTES_TO_WAIT = 120  # for the process that reads the data


def torchrun_command(arguments: Namespace, tool: Path, words: list[str]) -> list[str] | None:
    """Return the command that runs `tool` on the GPUs asked for; None where this process is one.

    ValueError where they are not there, or where several machines are given no address.
    """
    for name in ("num_gpus", "num_machines"):
        if getattr(arguments, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be at least 1, got {getattr(arguments, name)}")
    if not 0 <= arguments.machine_rank < arguments.num_machines:
        raise ValueError(
            f"--machine-rank {arguments.machine_rank} must be below --num-machines "
            f"{arguments.num_machines}"
        )
    world = arguments.num_gpus * arguments.num_machines
    if world == 1 or cluster_environment().world_size() > 1 or "RANK" in os.environ:
        return None
    if torch.cuda.device_count() < arguments.num_gpus:
        raise ValueError(
            f"--num-gpus {arguments.num_gpus}: this machine has {torch.cuda.device_count()} "
            "GPUs; processes on a CPU are started with torchrun"
        )
    place = ["--standalone"]
    if arguments.num_machines > 1:
        scheme, _, address = arguments.dist_url.partition("://")
        host, _, port = address.partition(":")
        if scheme != "tcp" or not port.isdigit():
            raise ValueError(
                "several machines need --dist-url tcp://HOST:PORT, the address of the first, got "
                f"{arguments.dist_url!r}"
            )
        place = [
            f"--nnodes={arguments.num_machines}",
            f"--node-rank={arguments.machine_rank}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
    runner = [sys.executable, "-m", "torch.distributed.run"]
    return [*runner, *place, f"--nproc-per-node={arguments.num_gpus}", str(tool), *words]


def start_processes(device: str, precision: str) -> Fabric:
    """Return Fabric on this process's device, with the others of the run joined.

    ValueError for a device that is not there, or cannot compute in `precision`.
    """
    cuda = torch.cuda.is_available() and device != "cpu"
    if precision == "bf16" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"{torch.cuda.get_device_name()} only emulates bf16, slowly: set train.precision=fp16"
        )
    fabric = launch(device, precision, broadcast_buffers=False)  # as Detectron2
    torch.backends.cudnn.benchmark = False  # shapes change from image to image
    if fabric.world_size > 1 and comm._LOCAL_PROCESS_GROUP is None:
        size = int(getattr(fabric.strategy, "num_processes", fabric.world_size))
        for first in range(0, fabric.world_size, size):
            group = dist.new_group(list(range(first, first + size)))
            if first <= fabric.global_rank < first + size:
                comm._LOCAL_PROCESS_GROUP = group
    return fabric


def once_per_machine(compute: Callable[[], T]) -> T:
    """Return what the first process of this machine computes; its error is raised on all of them.

    All processes of the run must call it, with the same number on each machine.
    """
    if comm.get_world_size() == 1:
        return compute()
    leader = comm.get_rank() - comm.get_local_rank()
    box: list[Any] = [None, None]
    if comm.get_local_rank() == 0:
        try:
            box = [compute(), None]
        except Exception as error:
            box = [None, error]
    dist.broadcast_object_list(box, src=leader, group=_machine_group())
    result, problem = box
    if problem is not None:
        raise problem
    return result


@cache
def _machine_group() -> Any:
    """Return a gloo group of this machine's processes: NCCL's cannot send objects."""
    size, mine = comm.get_local_size(), None
    for first in range(0, comm.get_world_size(), size):
        members = list(range(first, first + size))
        group = dist.new_group(members, backend="gloo", timeout=timedelta(minutes=MINUTES_TO_WAIT))
        if comm.get_rank() in members:
            mine = group
    return mine
