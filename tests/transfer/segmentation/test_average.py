"""The moving average of the weights: once per optimizer step, by detection's formula."""

import pytest
import torch

from transfer.segmentation import runner as runner_module
from transfer.segmentation.average import WarmedUpAverage


def by_hand(weights, decay):
    """min(decay, (1 + t) / (10 + t)) of the average is kept at update t, from the first weights."""
    average = weights[0]
    for t, value in enumerate(weights[1:]):
        kept = min(decay, (1 + t) / (10 + t))
        average = kept * average + (1 - kept) * value
    return average


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_formula(decay):
    net = torch.nn.BatchNorm1d(2)
    weights = [net.weight.detach().clone()]
    average = WarmedUpAverage(net, decay)
    for t in range(6):
        with torch.no_grad():
            net.weight += torch.randn(2)
            net.num_batches_tracked += 1
        weights.append(net.weight.detach().clone())
        average.update_parameters(net)
        assert torch.equal(average.module.num_batches_tracked, net.num_batches_tracked), t
    torch.testing.assert_close(average.module.weight, by_hand(weights, decay))


def test_it_moves_once_per_step_however_the_batch_is_computed(segment, tiny, tmp_path, monkeypatch):
    seen, saved = [], []

    def after(self, name, **kwargs):
        hook(self, name, **kwargs)
        weight = self.core.decode_head.conv_seg.weight
        if name == "before_train":
            seen.append(weight.detach().clone())
        if name == "after_train_iter" and (self.iter + 1) % 2 == 0:
            seen.append(weight.detach().clone())
        if name == "before_save_checkpoint":
            saved.append(kwargs["checkpoint"]["state_dict"]["decode_head.conv_seg.weight"].clone())

    hook = runner_module.TransferRunner.call_hook
    monkeypatch.setattr(runner_module.TransferRunner, "call_hook", after)
    segment([*tiny, "accumulation_steps=2", "ema_decay=0.9", "max_iters=4"], tmp_path)
    assert len(seen) == 5
    torch.testing.assert_close(saved[-1], by_hand(seen, 0.9))
