"""The two files of a run: written whole or not at all, read as tensors and nothing else."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import EncoderIdentity, read_encoder, read_identity, write_encoder
from pretrain.files.training_state import TrainingState, read_state, write_state
from pretrain.files.write import atomic_write, remove_unfinished
from pretrain.run.provenance import suite_commit

IDENTITY = EncoderIdentity(
    arch="resnet18", arch_args={"channels": [8, 16]}, method="spark", input_size=64,
    pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.2, 0.2, 0.2), color_order="RGB", steps=7,
    recipe={"seed": 0}, suite_version="0", commit="abc",
)  # fmt: skip
STATE = TrainingState(
    step=3, method={"w": torch.arange(3.0)}, optimizer={"state": {0: {"m": torch.ones(2)}}},
    data="digest", losses=[0.5], gradient_norms=[1.5], log_bytes=42,
)  # fmt: skip


def test_encoder_file_round_trip(tmp_path: Path) -> None:
    write_encoder(tmp_path / "e.safetensors", {"b": torch.ones(2), "a": torch.eye(3).T}, IDENTITY)
    tensors, identity = read_encoder(tmp_path / "e.safetensors")
    assert identity == IDENTITY == read_identity(tmp_path / "e.safetensors")
    assert torch.equal(tensors["a"], torch.eye(3))


def test_state_round_trip(tmp_path: Path) -> None:
    write_state(tmp_path / "state.pt", STATE)
    state = read_state(tmp_path / "state.pt")
    assert (state.step, state.losses, state.log_bytes) == (3, [0.5], 42)
    assert torch.equal(state.optimizer["state"][0]["m"], torch.ones(2))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state(path, STATE)
    for size in (0, 10, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match="not a readable training state"):
            read_state(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a training state of this suite"):
        read_state(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="no training state"):
        read_state(tmp_path / "none.pt")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    torch.save({"format": "x", "method": Hostile(tmp_path / "ran")}, tmp_path / "state.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    for name in ("state.pt", "plain.pt"):
        with pytest.raises(ValueError, match="not a readable training state"):
            read_state(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_commit_of_the_checkout() -> None:
    commit = suite_commit()
    assert commit == "unknown" or len(commit.removesuffix("+changes")) == 40


def test_what_a_killed_write_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    def killed_while_writing(path: Path) -> None:
        path.write_text("half")
        os._exit(9)

    for _ in range(2):
        if os.fork() == 0:
            atomic_write(tmp_path / "part" / "state.pt", killed_while_writing)
        os.wait()
    atomic_write(tmp_path / "state.pt", lambda path: path.write_text("whole"))
    (tmp_path / ".notes").write_text("not ours")
    (tmp_path / ".tmpA1b2C3").write_text("as safetensors leaves it")
    assert len(list((tmp_path / "part").iterdir())) == 2
    remove_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".notes", "part", "state.pt"]
    remove_unfinished(tmp_path / "none")
