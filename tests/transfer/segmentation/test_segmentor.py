"""Several views of an image are one prediction, and their logits are not all kept."""

import weakref

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from transfer.segmentation.segmentor import TransferSegmentor


class Views(TransferSegmentor):
    """A segmentor whose views are given; counts the logits that are alive at once."""

    def __init__(self, logits):
        torch.nn.Module.__init__(self)
        self.views, self.alive, self.most = list(logits), [], 0


def predict(self, data):  # noqa: ARG001
    """In place of EncoderDecoder.test_step."""
    logits = self.views.pop(0).clone()
    self.alive = [seen for seen in self.alive if seen() is not None]
    self.alive.append(weakref.ref(logits))
    self.most = max(self.most, len(self.alive))
    labels = PixelData(data=logits.argmax(0, True))
    return [SegDataSample(seg_logits=PixelData(data=logits), pred_sem_seg=labels)]


def test_the_mean_probability_of_the_views_decides(monkeypatch):
    monkeypatch.setattr(EncoderDecoder, "test_step", predict)
    torch.manual_seed(0)
    logits = [3 * torch.randn(5, 8, 8) for _ in range(12)]
    expected = torch.stack([view.softmax(0) for view in logits]).mean(0).argmax(0, keepdim=True)
    model = Views(logits)
    (merged,) = model.test_step({"inputs": [[None]] * 12, "data_samples": [[None]] * 12})
    assert torch.equal(merged.pred_sem_seg.data, expected)
    assert not torch.equal(expected, logits[0].argmax(0, keepdim=True))
    assert model.most <= 2, "the logits of every view are kept"
