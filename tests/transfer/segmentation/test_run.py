"""A run from config to record: interrupted runs equal unbroken ones, and nothing is overwritten."""

import json
import os
import signal

import pytest
import torch

from transfer.results.record import read_result
from transfer.segmentation import runner as runner_module
from transfer.segmentation.optimizer import NotFiniteError


def assert_same_weights(first, second):
    first, second = (
        torch.load(folder / "last.pth", weights_only=True)["state_dict"]
        for folder in (first, second)
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def assert_same_log(first, second, steps):
    first, second = (
        [json.loads(line) for line in (folder / "log.jsonl").open()] for folder in (first, second)
    )
    assert [line["step"] for line in second] == steps
    for line in (*first, *second):
        del line["seconds"]
    assert first == second


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
    assert_same_log(whole, tmp_path, steps=[2, 4, 6])
    assert resumed.metrics == read_result(whole).metrics
    assert resumed.per_class == read_result(whole).per_class


def test_accumulation_resumes_exactly(segment, tiny, tmp_path, monkeypatch):
    tiny = [*tiny, "accumulation_steps=2", "log_steps=3"]
    segment(tiny, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path / "broken")
    with (tmp_path / "broken" / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')
    segment(tiny, tmp_path / "broken", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    assert_same_log(tmp_path / "whole", tmp_path / "broken", steps=[3, 6])


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
    with pytest.raises(ValueError, match=r"other settings: lr was 0.003, is 0.1"):
        segment([*tiny, "lr=0.1"], tmp_path, resume=True)


def test_saved_predictions_give_the_figures_again(segment, tiny, tmp_path):
    from transfer.segmentation.config import load_config
    from transfer.segmentation.run import score

    options = [*tiny, "save_predictions=True", "max_iters=3", "ema_decay=0.5"]
    result = segment(options, tmp_path)
    cfg = load_config("configs/segmentation/custom.py", options)
    assert score(cfg, tmp_path) == pytest.approx(result.metrics)
    views = segment([*options, "tta.on=True", "tta.ratios=(0.75, 1.0)"], tmp_path, eval_only=True)
    assert views.protocol_hash != result.protocol_hash
    assert read_result(tmp_path).metrics == result.metrics
    (other,) = tmp_path.glob("eval-*/result.json")
    assert read_result(other).metrics == views.metrics
    again = segment(options, tmp_path, eval_only=True)
    assert again.metrics == pytest.approx(result.metrics)


def test_the_cost_is_estimated_before_the_run(tiny):
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", tiny)))
    assert cost.images == 24
    assert cost.parameters > 1000
    assert cost.seconds_per_image > 0
    assert "multiply-adds" in str(cost)


@pytest.mark.parametrize(
    ("precision", "half", "said"),
    [("fp32", False, "this CPU in fp32"), ("bf16", True, "this CPU in bf16"),
     ("fp16", False, "this CPU in fp32")],
)  # fmt: skip
def test_the_cost_is_timed_in_the_precision_of_the_run(tiny, monkeypatch, precision, half, said):
    from mmseg.models.decode_heads import UPerHead

    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    types, forward = set(), UPerHead.forward

    def record(self, inputs):
        logits = forward(self, inputs)
        types.add(logits.dtype)
        return logits

    monkeypatch.setattr(UPerHead, "forward", record)
    options = [*tiny, f"precision={precision}"]
    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", options)))
    assert (torch.bfloat16 in types) == half
    assert said in str(cost)


def test_the_cost_of_a_weights_file_is_that_of_its_architecture(tiny, tmp_path):
    from tests.transfer.segmentation.test_model import encoder_file
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    encoder_file(tmp_path / "encoder.safetensors")
    options = [o for o in tiny if not o.startswith("arch")]
    options.append(f"weights={tmp_path / 'encoder.safetensors'}")
    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", options)))
    assert cost.parameters > 11e6  # a ResNet-18
