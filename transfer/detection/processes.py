"""The processes of a run: torchrun's group, and what one process of a machine does for all."""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from detectron2.utils import comm

T = TypeVar("T")
MINUTES_TO_WAIT = 120  # for the process that reads the data


def started_by_torchrun() -> bool:
    """Whether the environment describes a group of torchrun's."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join_torchrun() -> None:
    """Join the group that torchrun describes: NCCL with GPUs, gloo without."""
    if dist.is_initialized():
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpus else "gloo", timeout=timedelta(minutes=30))
    size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    for first in range(0, dist.get_world_size(), size):
        group = dist.new_group(list(range(first, first + size)))
        if first <= dist.get_rank() < first + size:
            comm._LOCAL_PROCESS_GROUP = group


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
    """A gloo group of this machine's processes: NCCL's cannot send objects from main memory."""
    size, mine = comm.get_local_size(), None
    for first in range(0, comm.get_world_size(), size):
        members = list(range(first, first + size))
        group = dist.new_group(members, backend="gloo", timeout=timedelta(minutes=MINUTES_TO_WAIT))
        if comm.get_rank() in members:
            mine = group
    return mine
