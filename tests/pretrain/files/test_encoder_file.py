"""The encoder file: written whole or not at all, read as tensors and nothing else."""

import os
from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import EncoderIdentity, read_encoder, read_identity, write_encoder
from pretrain.files.write import atomic_write, remove_unfinished

IDENTITY = EncoderIdentity(
    arch="resnet18", arch_args={"channels": [8, 16]}, method="spark", input_size=64,
    pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.2, 0.2, 0.2), color_order="RGB", steps=7,
    recipe={"seed": 0}, suite_version="0", commit="abc",
)  # fmt: skip


def test_encoder_file_round_trip(tmp_path: Path) -> None:
    write_encoder(tmp_path / "e.safetensors", {"b": torch.ones(2), "a": torch.eye(3).T}, IDENTITY)
    tensors, identity = read_encoder(tmp_path / "e.safetensors")
    assert identity == IDENTITY == read_identity(tmp_path / "e.safetensors")
    assert torch.equal(tensors["a"], torch.eye(3))


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
