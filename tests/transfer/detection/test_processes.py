"""One process of a machine works for all of its processes."""

import pytest
import torch.distributed as dist
from detectron2.utils import comm

from transfer.detection import processes
from transfer.detection.processes import once_per_machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The second of two processes of the second machine, and what its first one sends."""
    seen: dict = {"sent": [42, None]}

    def broadcast(box: list, src: int, **_: object) -> None:
        seen["source"] = src
        box[:] = seen["sent"]

    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    monkeypatch.setattr(comm, "get_rank", lambda: 3)
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(processes, "_machine_group", lambda: None)
    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    return seen


def test_the_others_take_what_the_first_of_their_machine_sends(machine: dict) -> None:
    calls: list[int] = []
    assert once_per_machine(lambda: calls.append(1)) == 42
    assert calls == []
    assert machine["source"] == 2


def test_its_error_is_everybodys(machine: dict) -> None:
    machine["sent"] = [None, ValueError("no annotation file")]
    with pytest.raises(ValueError, match="no annotation file"):
        once_per_machine(lambda: 1)


def test_alone_it_is_a_call() -> None:
    assert once_per_machine(lambda: 7) == 7
