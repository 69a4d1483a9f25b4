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
    tiny = [*tiny, "accumulation=2", "log_interval=3"]
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


def contents(folder):
    """The bytes of every file below a folder, by path, without the log for people."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "log.txt")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_evaluation_alone_repeats_the_figures(evaluate, tiny, whole):
    before = contents(whole)
    assert evaluate(tiny, whole) == read_result(whole).metrics
    assert contents(whole) == before  # cost and settings of the training among it


def test_evaluating_an_unfinished_run_makes_no_record(
    segment, evaluate, tiny, whole, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        stop_after(patch, 4, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    (tmp_path / ".last.pth.abcdefgh.tmp").write_bytes(b"a state that a run at work is writing")
    before = contents(tmp_path)
    figures = evaluate([*tiny, "max_iters=4"], tmp_path)  # it is the run's length that counts
    assert set(figures) == {"mIoU", "mAcc", "aAcc"}
    assert "unfinished: 2 of 6 steps" in capsys.readouterr().out
    after = contents(tmp_path)
    assert {name: after.pop(name) for name in before} == before
    assert set(after) == {"eval-unfinished/predictions.png"}
    segment(tiny, tmp_path, resume=True)
    assert_same_weights(whole, tmp_path)
    assert evaluate(tiny, tmp_path) == read_result(tmp_path).metrics
    assert "unfinished:" not in capsys.readouterr().out


def test_a_step_is_not_a_forward_pass_when_a_run_is_called_unfinished(
    segment, evaluate, tiny, tmp_path, monkeypatch, capsys
):
    options = [*tiny, "accumulation=2", "max_iters=16", "warmup_iters=4", "budget=quarter"]
    with monkeypatch.context() as patch:
        stop_after(patch, 7, kill)
        with pytest.raises(KilledError):
            segment(options, tmp_path)
    evaluate(options, tmp_path)
    assert "unfinished: 2 of 4 steps" in capsys.readouterr().out
    segment(options, tmp_path, resume=True)
    evaluate(options, tmp_path)
    assert "unfinished:" not in capsys.readouterr().out


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


def test_a_last_update_that_is_not_finite_gives_no_record(segment, tiny, tmp_path, monkeypatch):
    """No loss shows it: a step's loss is computed before its update."""
    from mmengine.optim import OptimWrapper

    step, calls = OptimWrapper.step, []

    def bad(self, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            self.param_groups[0]["lr"] = float("nan")
        step(self, **kwargs)

    monkeypatch.setattr(OptimWrapper, "step", bad)
    with pytest.raises(FloatingPointError, match=r"\S+ holds values that are not finite"):
        segment(tiny, tmp_path)
    assert not (tmp_path / "result.json").exists()
    saved = torch.load(tmp_path / "last.pth", weights_only=True)
    assert saved["meta"]["iter"] == 4
    assert all(torch.isfinite(t).all() for t in saved["state_dict"].values())


def test_resuming_with_other_settings_is_refused(segment, tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    with pytest.raises(ValueError, match=r"other settings: lr was 0.003, is 0.1"):
        segment([*tiny, "lr=0.1"], tmp_path, resume=True)


def test_saved_predictions_give_the_figures_again(segment, evaluate, tiny, tmp_path):
    from transfer.segmentation.config import load_config
    from transfer.segmentation.run import score

    options = [*tiny, "save_predictions=True", "max_iters=3", "ema=0.5"]
    result = segment(options, tmp_path)
    cfg = load_config("configs/segmentation/custom.py", options)
    assert score(cfg, tmp_path) == pytest.approx(result.metrics)
    ratios = ["views=multiscale", "test_ratios=(0.75, 1.0)"]
    views = evaluate([*options, *ratios, "lr=0.5"], tmp_path)
    assert read_result(tmp_path) == result
    (path,) = tmp_path.glob("evals/*.json")
    found = read_result(path)
    assert found.metrics == views
    assert set(found.per_class["IoU"]) == {"noise", "square", "stripe"}
    assert result.eval["tta"] is None
    assert found.eval["tta"]["ratios"] == [0.75, 1.0]
    assert found.train == result.train  # what the net was trained with, not lr=0.5
    assert found.config.train == result.config.train
    assert set(found.config.eval) - set(result.config.eval) == {"pipeline", "tta"}
    assert not list(tmp_path.glob("*/result.json"))
    assert evaluate(options, tmp_path) == pytest.approx(result.metrics)


def test_the_mean_of_views_decides():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from transfer.segmentation.segmentor import merge_views

    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]]), torch.tensor([[[-5.0, 0.0]], [[0.0, 0.0]]])
    views = [
        SegDataSample(seg_logits=PixelData(data=x), pred_sem_seg=PixelData(data=x.argmax(0, True)))
        for x in logits
    ]
    assert merge_views(views).pred_sem_seg.data.tolist() == [[[1, 1]]]


def test_the_cost_is_estimated_before_the_run(tiny):
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", tiny)))
    assert cost.images == 24
    assert cost.parameters > 1000
    assert cost.seconds_per_image > 0
    assert "multiply-adds" in str(cost)
