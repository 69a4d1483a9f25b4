"""The encoder file: written whole or not at all, read as tensors and nothing else."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """safetensors alone shuffles the header from one write to the next."""
    for name in "abc":
        write_encoder(tmp_path / name, {"b": torch.ones(2), "a": torch.eye(3)}, IDENTITY)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arch": "5"}, "arch must be text, got 5"),
        ({"method": "null"}, "method must be text, got None"),
        ({"input_size": "-5"}, "input_size must be a whole number from 1 on, got -5"),
        ({"steps": "true"}, "steps must be a whole number"),
        ({"arch_args": "[1"}, "header is wrong"),
        ({"arch_args": "[]"}, "arch_args must be a table"),
        ({"pixel_mean": "3"}, "not iterable"),
        ({"format": "other"}, "not an encoder file"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    path = tmp_path / "e.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={**IDENTITY.to_metadata(), **changes})
    with pytest.raises(ValueError, match=says) as error:
        read_encoder(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_encoder(path, {"a": torch.ones(100)}, IDENTITY)
    whole = path.read_bytes()
    for content in (b"", whole[:4], whole[:-50], b"\xff" * 7 + whole[7:]):
        path.write_bytes(content)
        for read in (read_encoder, read_identity):
            with pytest.raises(ValueError, match=r"e\.safetensors: "):
                read(path)
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        read_identity(tmp_path / "none.safetensors")


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
