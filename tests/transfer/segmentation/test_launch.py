"""Processes are found as torchrun or srun started them, each with its own GPU."""

import pytest

from transfer.segmentation import launch
from transfer.segmentation.launch import join_processes

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "11",
    "LOCAL_RANK": "3",
    "WORLD_SIZE": "16",
    "MASTER_ADDR": "node",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def joined(monkeypatch):
    """What would have been joined: the device and the arguments of init_process_group."""
    seen = {}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: seen.update(device=device))
    monkeypatch.setattr(
        launch.distributed,
        "init_process_group",
        lambda backend, **more: seen.update(more, backend=backend),
    )
    monkeypatch.setattr(launch.distributed, "get_world_size", lambda: 16)
    return seen


@pytest.mark.parametrize(("visible", "device"), [(1, 0), (8, 3)])
@pytest.mark.parametrize("launcher", ["auto", "pytorch"])
def test_a_task_that_sees_one_gpu_takes_that_one(joined, monkeypatch, visible, device, launcher):
    """As with srun --gpus-per-task=1: the fourth process of a node sees one GPU, number 0."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: visible)
    assert join_processes(launcher) == 16
    assert joined == {"device": device, "backend": "nccl", "rank": 11, "world_size": 16}


def test_alone():
    assert join_processes("none") == join_processes("auto") == 1


@pytest.mark.parametrize(("launcher", "tool"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_a_launcher_that_is_not_there_is_refused(launcher, tool):
    with pytest.raises(ValueError, match=f"start with {tool}"):
        join_processes(launcher)
