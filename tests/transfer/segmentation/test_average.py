"""The moving average of the weights: once per optimizer step, as in the other trainings."""

import torch

from transfer.segmentation import runner as runner_module
from transfer.segmentation.state import load


def by_hand(weights, decay):
    """The average after the updates to weights[1:], from weights[0] on."""
    average = weights[0]
    for value in weights[1:]:
        average = decay * average + (1 - decay) * value
    return average


def test_it_moves_once_per_step_however_the_batch_is_computed(segment, tiny, tmp_path, monkeypatch):
    seen = []

    def after(self, name, **kwargs):
        hook(self, name, **kwargs)
        weight = self.unwrapped_model.decode_head.conv_seg.weight
        if name == "before_train":
            seen.append(weight.detach().clone())
        if name == "after_train_iter" and (self.iter + 1) % 2 == 0:
            seen.append(weight.detach().clone())

    hook = runner_module.TransferRunner.call_hook
    monkeypatch.setattr(runner_module.TransferRunner, "call_hook", after)
    segment([*tiny, "accumulation_steps=2", "ema_decay=0.9", "max_iters=4"], tmp_path)
    assert len(seen) == 5
    state = load(tmp_path / "state.pt")
    name = "decode_head.conv_seg.weight"
    assert torch.equal(state["model"][name], seen[-1])
    torch.testing.assert_close(state["average"][name], by_hand(seen, 0.9))
