"""The encoder file: written whole or not at all, read as tensors and nothing else."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrain.files.encoder_file import (
    first_not_finite,
    read_encoder,
    read_identity,
    write_encoder,
)
from pretrain.files.lineage import Stage
from pretrain.files.write import atomic_write, remove_unfinished
from tests.identity import identity_of

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = identity_of("resnet18", {"channels": [8, 16]}, steps=7, recipe={"seed": 0}, commit="abc")


def test_encoder_file_round_trip(tmp_path: Path) -> None:
    write_encoder(tmp_path / "e.safetensors", {"b": torch.ones(2), "a": torch.eye(3).T}, IDENTITY)
    tensors, identity = read_encoder(tmp_path / "e.safetensors")
    assert identity == IDENTITY == read_identity(tmp_path / "e.safetensors")
    assert torch.equal(tensors["a"], torch.eye(3))


WRITE = """
import sys
from pathlib import Path
from tests.pretrain.files.test_encoder_file import IDENTITY, TENSORS
from pretrain.files.encoder_file import write_encoder

write_encoder(Path(sys.argv[1]), TENSORS, IDENTITY)
"""
TENSORS = {
    "stem.weight": torch.linspace(-1, 1, 27).reshape(1, 3, 3, 3),
    "norm.bias": torch.ones(3),
    "steps": torch.tensor(7),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "flag": torch.tensor([True]),
    "empty": torch.ones(0, 2),
    "view": torch.eye(3)[:, ::2],
}


def test_equal_encoders_are_equal_bytes_whatever_the_process(tmp_path: Path) -> None:
    digests = set()
    for seed in ("0", "1", "2"):
        path = tmp_path / f"{seed}.safetensors"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WRITE, str(path)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    write_encoder(path, dict(reversed(TENSORS.items())), IDENTITY)
    assert digests == {hashlib.sha256(path.read_bytes()).hexdigest()}
    write_encoder(path, TENSORS, replace(IDENTITY, steps=8))
    assert digests != {hashlib.sha256(path.read_bytes()).hexdigest()}


def test_the_encoder_file_is_as_safetensors_writes_it_but_for_the_order(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_encoder(ours, TENSORS, IDENTITY)
    plain = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(plain, theirs, metadata=IDENTITY.to_metadata())
    first, second = load_file(ours), load_file(theirs)
    assert first.keys() == second.keys() == TENSORS.keys()
    for name, tensor in first.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, second[name])
    assert read_identity(ours) == read_identity(theirs) == IDENTITY
    assert int.from_bytes(ours.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    "method", ["<script>alert(1)</script>", "SparK", "a b", "", "x\n", None, 3]
)
def test_a_method_that_is_no_plain_name_is_refused(method: object, tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    metadata = IDENTITY.to_metadata() | {"method": json.dumps(method)}
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    for read in (read_identity, read_encoder):
        with pytest.raises(ValueError, match=r"e\.safetensors.*method must be a short name"):
            read(path)
    with pytest.raises(ValueError, match="method must be a short name"):
        replace(IDENTITY, method=method, stages=())
    assert replace(IDENTITY, method="dino_v2.1+x-y", stages=()).method == "dino_v2.1+x-y"


STAGES = (
    Stage("fcmae", data="IN1K", labels=False, epochs=1600, input_size=224, seed=3),
    Stage("supervised", data="IN1K", labels=True, epochs=100, started_from="ab" * 32),
)


def test_a_lineage_goes_through_the_file(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    identity = replace(IDENTITY, method="fcmae+supervised", stages=STAGES)
    write_encoder(path, {"a": torch.ones(1)}, identity)
    assert read_identity(path).stages == STAGES
    with pytest.raises(ValueError, match="method 'fcmae' is not that of the stages"):
        replace(identity, method="fcmae")


def test_a_file_of_the_first_format_has_the_stage_that_its_method_tells(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    metadata = IDENTITY.to_metadata() | {"format": "mim-transfer-encoder/1"}
    del metadata["stages"]
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    assert read_identity(path).stages == (Stage("spark", labels=False, steps=7),)
    save_file({"a": torch.ones(1)}, path, metadata=metadata | {"format": "mim-transfer-encoder/2"})
    with pytest.raises(ValueError, match="header lacks stages"):
        read_identity(path)


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    tensors = {"a": torch.ones(2), "steps": torch.tensor(3), "b": torch.tensor([1.0, float("inf")])}
    assert first_not_finite(tensors) == "b"
    assert first_not_finite({**tensors, "b": torch.zeros(1)}) is None
    assert first_not_finite({"steps": torch.tensor(3)}) is None
    assert (
        first_not_finite({"half": torch.full((2,), float("nan"), dtype=torch.bfloat16)}) == "half"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arch": "5"}, "arch must be text, got 5"),
        ({"method": "null"}, "method must be a short name"),
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
