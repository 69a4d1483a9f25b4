"""Hostile and broken files are refused unrun, through every door that takes a weights file."""

import traceback
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch

from tests.transfer.weights import cases_hostile as hostile
from transfer.weights import WeightsError, features_for, read_weights, safe_read

FILES = {**hostile.RUNNING, **hostile.BROKEN}

VALUES = {
    "NaN",
    "infinite",
    "whole numbers",
    "complex numbers",
    "eight-bit floats",
}  # seen on loading


def _name(kind: str) -> str:
    return "weights.pkl" if "pickle" in kind else "weights.pth"


@pytest.mark.parametrize("kind", FILES)
def test_refused(kind, tmp_path):
    write, told = FILES[kind]
    path = tmp_path / _name(kind)
    write(path)
    for door in (features_for, read_weights):
        if door is read_weights and kind in VALUES:
            continue
        with pytest.raises(ValueError, match=told) as caught:
            door(path)
        assert str(path) in str(caught.value)
        assert "weights_only" not in "".join(traceback.format_exception(caught.value))
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", hostile.RUNNING)
def test_names_what_it_tried_to_import(kind, tmp_path):
    write, told = hostile.RUNNING[kind]
    path = tmp_path / _name(kind)
    write(path)
    with pytest.raises(WeightsError, match=rf"refused.*import .*{told}"):
        safe_read(path)
    assert not (tmp_path / "ran").exists()


def test_odd_paths(tmp_path):
    for path, told in hostile.odd_paths(tmp_path).values():
        for door in (safe_read, read_weights, features_for):
            with pytest.raises((WeightsError, FileNotFoundError), match=told):
                door(path)


def test_a_link_to_a_file_is_the_file(tmp_path):
    hostile.good(tmp_path / "weights.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "weights.pth")
    assert (
        read_weights(tmp_path / "link.pth").sha256 == read_weights(tmp_path / "weights.pth").sha256
    )


def test_the_name_does_not_choose_the_reader(tmp_path):
    path = tmp_path / "weights.safetensors"
    hostile.good(path)
    assert read_weights(path).source == "spark"
    path.write_bytes(b"")
    hostile.pickled(hostile.touch)(path)
    with pytest.raises(WeightsError, match="refused"):
        safe_read(path)


@pytest.mark.parametrize("zip_format", [True, False])
def test_what_released_files_hold_is_read(zip_format, tmp_path):
    path = tmp_path / "weights.pth"
    history = pytest.importorskip("mmengine.logging").HistoryBuffer([1.0, 2.0], [1, 1])
    content = {
        "model": OrderedDict(a=torch.ones(3), b=torch.ones(2, dtype=torch.bfloat16)),
        "args": Namespace(lr=0.1),
        "epoch": np.int64(3),
        "accuracy": np.float32(0.5),
        "array": np.arange(6).reshape(2, 3).T,
        "message_hub": {"loss": history},
        "size": torch.Size([1, 2]),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    read = safe_read(path)
    assert torch.equal(read["model"]["a"], torch.ones(3))
    assert read["args"] == {"lr": 0.1}
    assert read["epoch"] == 3
    assert read["accuracy"] == np.float32(0.5)
    assert np.array_equal(read["array"], np.arange(6).reshape(2, 3).T)
    assert read["message_hub"]["loss"].values["_log_history"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "i8", "?"])
def test_arrays_of_a_pickle(protocol, dtype, tmp_path):
    import pickle

    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    content = {"model": {"x": array, "s": np.float32(2)}, "__author__": "me"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    read = safe_read(tmp_path / "w.pkl")
    assert np.array_equal(read["model"]["x"], array)
    assert read["model"]["s"] == 2
    assert read["__author__"] == "me"
