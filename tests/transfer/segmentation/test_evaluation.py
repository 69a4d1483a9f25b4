"""Evaluations during training: outside of the protocol, and the best state is kept."""

import json
import os
import signal

import pytest
import torch

from pretrain.run.stop import Stopped
from tests.transfer.segmentation.test_run import KilledError, assert_same_weights, kill, stop_after
from transfer.results.record import read_result
from transfer.segmentation import runner as runner_module
from transfer.segmentation.state import load


@pytest.fixture
def evaluated(segment, tiny, tmp_path_factory):
    """The folder of a run that is evaluated every two steps, trained once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "evaluated"
    if not folder.exists():
        segment([*tiny, "eval_steps=2", "ema_decay=0.9"], folder)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").open()]


def figures(folder):
    """Step -> mIoU of the evaluations."""
    return {line["step"]: line["mIoU"] for line in lines(folder) if "mIoU" in line}


def test_evaluating_on_the_way_changes_nothing(segment, tiny, evaluated, tmp_path):
    plain = segment([*tiny, "ema_decay=0.9"], tmp_path)
    assert_same_weights(tmp_path, evaluated)
    result = read_result(evaluated)
    assert result.metrics == plain.metrics
    assert result.protocol_hash == plain.protocol_hash
    assert set(figures(evaluated)) == {2, 4}  # the record has those of the last step
    assert not figures(tmp_path)


def test_the_best_state_is_kept(evaluated):
    best = load(evaluated / "best.pt")
    found = {**figures(evaluated), 6: read_result(evaluated).metrics["mIoU"]}
    assert best["metrics"]["mIoU"] == max(found.values()) == found[best["step"]]


def test_the_best_state_is_the_evaluated_one(segment, tiny, tmp_path, monkeypatch):
    """That is the average of the weights, where one is kept."""
    monkeypatch.setattr(
        "transfer.segmentation.iou.figures", lambda _: ({"mIoU": 1.0, "mAcc": 1.0, "aAcc": 1.0}, {})
    )
    segment([*tiny, "eval_steps=2", "max_iters=3", "ema_decay=0.9", "checkpoint_steps=2"], tmp_path)
    best = load(tmp_path / "best.pt")
    assert best["step"] == 2  # an equal figure is not a better one
    with monkeypatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(KilledError):
            segment([*tiny, "max_iters=3", "ema_decay=0.9"], tmp_path / "killed")
    for name, tensor in load(tmp_path / "killed/state.pt")["average"].items():
        assert torch.equal(best["model"][name], tensor), name


def test_evaluation_alone_leaves_the_best_state_and_the_log(evaluate, tiny, evaluated):
    names = ("best.pt", "log.jsonl")
    before = [(evaluated / name).read_bytes() for name in names]
    evaluate([*tiny, "eval_steps=2", "ema_decay=0.9"], evaluated)
    assert [(evaluated / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    "moment", ["step 3", "evaluation 4", "signal in evaluation 4", "evaluation 6"]
)
def test_a_killed_run_evaluates_what_it_had_not(
    segment, tiny, evaluated, tmp_path, monkeypatch, moment
):
    options = [*tiny, "eval_steps=2", "ema_decay=0.9"]
    with monkeypatch.context() as patch:
        if moment == "step 3":
            stop_after(patch, 3, kill)
        elif moment.startswith("signal"):
            in_evaluation(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        else:
            in_evaluation(patch, int(moment[-1]), kill)
        with pytest.raises((KilledError, Stopped)):
            segment(options, tmp_path)
    saved = {"step 3": 2, "evaluation 4": 2, "signal in evaluation 4": 4, "evaluation 6": 6}
    assert load(tmp_path / "state.pt")["step"] == saved[moment]
    segment(options, tmp_path, resume=True)
    assert_same_weights(evaluated, tmp_path)
    assert figures(tmp_path) == figures(evaluated)
    assert [line["step"] for line in lines(tmp_path)] == [2, 2, 4, 4, 6]
    first, second = (load(folder / "best.pt")["model"] for folder in (evaluated, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def in_evaluation(monkeypatch, after, action):
    """Do `action` in the evaluation that follows so many steps."""
    hook = runner_module.TransferRunner.call_hook

    def call_hook(self, name, **kwargs):
        if name == "after_val_iter" and self.iter == after:
            action()
        hook(self, name, **kwargs)

    monkeypatch.setattr(runner_module.TransferRunner, "call_hook", call_hook)
