"""A run from a control says so in its record, and is never resumed as a run of the real weights."""

import os
import signal

import pytest

from pretrain.files.read import sha256_of
from pretrain.run.stop import Stopped
from tests.transfer.segmentation.test_model import encoder_file
from tests.transfer.segmentation.test_run import stop_after
from transfer.results.record import read_result

ARGS = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}


@pytest.fixture
def encoder(tmp_path):
    encoder_file(tmp_path / "encoder.safetensors", "convnext_atto", ARGS)
    return tmp_path / "encoder.safetensors"


def test_a_shuffled_run_is_recorded_and_resumed_as_one(
    segment, tiny, encoder, tmp_path, monkeypatch
):
    options, folder = [*tiny, "seed=2", f"weights=control:shuffled:{encoder}"], tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            segment(options, folder)
    with pytest.raises(ValueError, match="weights"):
        segment([*tiny, "seed=2", f"weights={encoder}"], folder, resume=True)
    segment(options, folder, resume=True)
    result = read_result(folder)
    assert result.method == "spark+shuffled"
    assert (result.stages[-1].seed, result.stages[-1].started_from) == (2, sha256_of(encoder))
    assert result.sha256 != sha256_of(encoder)


def test_a_random_run_is_recorded(segment, tiny, tmp_path):
    options = [*tiny, "weights=control:random", "freeze=backbone", "layer_decay=1.0"]
    assert segment(options, tmp_path).method == "random"
