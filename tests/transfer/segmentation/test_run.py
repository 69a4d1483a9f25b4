"""A run from config to record: interrupted runs equal unbroken ones, and nothing is overwritten."""

import os
import signal

import pytest
import torch

from transfer.record import read_result
from transfer.segmentation import runner as runner_module
from transfer.segmentation.optim import NotFiniteError


def assert_same_weights(first, second):
    first, second = (
        torch.load(folder / "last.pth", weights_only=True)["state_dict"]
        for folder in (first, second)
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def stop_after(monkeypatch, steps, action):
    """Do `action` once `steps` steps are done, before they are saved."""
    save = runner_module.TransferRunner.call_hook

    def call_hook(self, name, **kwargs):
        if name == "after_train_iter" and self.iter + 1 == steps:
            action()
        save(self, name, **kwargs)

    monkeypatch.setattr(runner_module.TransferRunner, "call_hook", call_hook)


class KilledError(Exception):
    """Stands for SIGKILL: nothing of the run gets to clean up."""


def kill():
    raise KilledError


@pytest.fixture
def whole(segment, tiny, tmp_path_factory):
    """The folder of the unbroken run, trained once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "whole"
    if not folder.exists():
        segment(tiny, folder)
    return folder


def test_the_record_of_a_run(whole, tmp_path):
    result = read_result(whole)
    assert (result.task, result.method, result.backbone) == (
        "segmentation", "scratch", "convnext_atto",
    )  # fmt: skip
    assert set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert set(result.per_class["IoU"]) == {"noise", "square", "stripe"}
    assert result.dataset.train_images == 16
    assert result.dataset.val_images == 4
    assert result.weights is None
    assert result.cost.images_per_second > 0
    assert any("sync_bn" in note for note in result.notes)
    text = str(result.protocol)
    assert "convnext_atto" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_killed_run_goes_on_to_the_same_end(segment, tiny, whole, tmp_path, monkeypatch, steps):
    with monkeypatch.context() as patch:
        stop_after(patch, steps, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    resumed = segment(tiny, tmp_path, resume=True)
    assert_same_weights(whole, tmp_path)
    assert resumed.metrics == read_result(whole).metrics
    assert resumed.per_class == read_result(whole).per_class


def test_accumulation_resumes_exactly(segment, tiny, tmp_path, monkeypatch):
    tiny = [*tiny, "accumulation=2"]
    segment(tiny, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path / "broken")
    segment(tiny, tmp_path / "broken", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_sigterm_saves_and_stops(segment, tiny, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert segment(tiny, tmp_path / "stopped") is None
    assert torch.load(tmp_path / "stopped/last.pth", weights_only=True)["meta"]["iter"] == 3
    segment(tiny, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")


def test_evaluation_alone_repeats_the_figures(segment, tiny, whole):
    figures = read_result(whole).metrics
    assert segment(tiny, whole, eval_only=True).metrics == figures


def test_nan_stops_with_the_last_good_state_and_the_images(segment, tiny, tmp_path, monkeypatch):
    from mmseg.models.segmentors import EncoderDecoder

    loss, calls = EncoderDecoder.loss, []

    def bad(self, *args):
        losses = loss(self, *args)
        calls.append(1)
        return {k: v * float("nan") for k, v in losses.items()} if len(calls) == 4 else losses

    monkeypatch.setattr(EncoderDecoder, "loss", bad)
    with pytest.raises(NotFiniteError, match=r"step 4: the loss is nan on .*\d\d\.png") as error:
        segment(tiny, tmp_path)
    assert "holds the last good state" in str(error.value)
    saved = torch.load(tmp_path / "last.pth", weights_only=True)
    assert saved["meta"]["iter"] == 2
    assert all(torch.isfinite(t).all() for t in saved["state_dict"].values())


def test_resuming_with_other_settings_is_refused(segment, tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    with pytest.raises(ValueError, match=r"other settings: lr was 0.002, is 0.1"):
        segment([*tiny, "lr=0.1"], tmp_path, resume=True)
