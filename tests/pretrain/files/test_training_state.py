"""The state of a run: tensors and plain values, with a digest of what was written."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.files.training_state import digest, read_state, write_state

VALUES: dict[str, Any] = {
    "step": 3,
    "model": OrderedDict(
        weight=torch.arange(6.0).reshape(2, 3).T,
        half=torch.ones(3, dtype=torch.bfloat16),
        kernel=torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        count=torch.tensor(7),
        none=torch.zeros(0, 2),
        mask=torch.tensor([True, False]),
    ),
    "optimizer": {"state": {0: {"m": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]},
    "losses": [0.5, float("inf")],
    "best": None,
    "factor": np.float64(0.1),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_state(tmp_path / "state.pt", "pretraining", VALUES)
    return tmp_path / "state.pt"


def test_round_trip(path: Path) -> None:
    read = read_state(path, "pretraining")
    assert read.keys() == VALUES.keys()
    for name, tensor in VALUES["model"].items():
        assert torch.equal(read["model"][name], tensor)
        assert read["model"][name].dtype == tensor.dtype
    assert read["model"]["kernel"].is_contiguous(memory_format=torch.channels_last)
    assert read["optimizer"]["param_groups"] == [{"betas": (0.9, 0.99)}]
    assert torch.equal(read["optimizer"]["state"][0]["m"], torch.ones(2))
    assert (read["step"], read["losses"], read["best"]) == (3, [0.5, float("inf")], None)
    assert type(read["factor"]) is float


def test_flipped_bytes_are_noticed(path: Path) -> None:
    """Anywhere in a tensor: torch itself would read them without a word."""
    content = bytearray(path.read_bytes())
    at = content.index(torch.arange(6.0).numpy().tobytes())
    content[at + 9] ^= 0x40
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["values"]["model"]["weight"], VALUES["model"]["weight"])
    with pytest.raises(ValueError, match=r"state\.pt: the training state is damaged .*remove it"):
        read_state(path, "pretraining")


@pytest.mark.parametrize("where", range(0, 100, 7))
def test_no_flipped_byte_goes_unnoticed(path: Path, where: int) -> None:
    """A refusal with the file's name, or the very values: padding may change."""
    content = bytearray(path.read_bytes())
    content[where * len(content) // 100] ^= 0x21
    path.write_bytes(content)
    try:
        assert digest(read_state(path, "pretraining")) == digest(
            {**VALUES, "model": dict(VALUES["model"]), "factor": 0.1}
        )
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "weights_only" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_state_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"state\.pt: not a readable training state \(.*remove it"):
        read_state(path, "pretraining")


def test_another_kind_of_file_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the state of a pretraining run, expected detection"):
        read_state(path, "detection")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a training state of this suite"):
        read_state(tmp_path / "other.pt", "pretraining")
    with pytest.raises(FileNotFoundError, match="no training state"):
        read_state(tmp_path / "none.pt", "pretraining")
    with pytest.raises(ValueError, match="not a regular file"):
        read_state(tmp_path, "pretraining")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    torch.save({"format": "x", "method": Hostile(tmp_path / "ran")}, tmp_path / "state.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    for name in ("state.pt", "plain.pt"):
        with pytest.raises(ValueError, match=r"not a readable training state.*would run code"):
            read_state(tmp_path / name, "pretraining")
    assert not (tmp_path / "ran").exists()


def test_only_plain_values_are_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"optimizer\.hook is a function"):
        write_state(tmp_path / "s.pt", "detection", {"optimizer": {"hook": lambda: 0}})
    assert not (tmp_path / "s.pt").exists()


def test_names_order_shapes_and_types_are_part_of_the_digest() -> None:
    zero = torch.zeros(2)
    values = [
        {"a": zero},
        {"b": zero},
        {"a": zero.reshape(1, 2)},
        {"a": zero.int()},
        {"a": [0.0, 0.0]},
        {"a": (0.0, 0.0)},
        {"a": 0.0},
        {"a": 0},
        {"a": False},
        {"a": None},
        {"a": "None"},
        {"a": {}, "b": {}},
        {"b": {}, "a": {}},
        {"a": {"b": {}}},
    ]
    assert len({digest(value) for value in values}) == len(values)
