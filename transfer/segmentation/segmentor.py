"""MMSegmentation's EncoderDecoder, told by its backbone what only the weights know."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from transfer.weights.identity import PixelStats


@MODELS.register_module()
class TransferSegmentor(EncoderDecoder):
    """Heads take their in_channels from the backbone, pixels are normalised as the weights want.

    `pixels`: "weights" normalises by the weights' own mean and standard deviation (ImageNet's from
    scratch), "imagenet" by ImageNet's whatever the weights say, as the published BEiT recipes do.
    """

    def __init__(self, *, pixels: str = "weights", **parts: Any) -> None:
        if pixels not in ("weights", "imagenet"):
            raise ValueError(f"pixels must be 'weights' or 'imagenet', got {pixels!r}")
        super().__init__(**parts)
        self.data_preprocessor._non_blocking = True  # batches come from pinned memory
        if pixels == "weights":
            set_pixels(self.data_preprocessor, self.backbone.pixels)

    def _init_decode_head(self, decode_head: Mapping[str, Any]) -> None:
        super()._init_decode_head(self._with_channels(decode_head))

    def _init_auxiliary_head(self, auxiliary_head: Any) -> None:
        if isinstance(auxiliary_head, Sequence):
            auxiliary_head = [self._with_channels(head) for head in auxiliary_head]
        elif auxiliary_head is not None:
            auxiliary_head = self._with_channels(auxiliary_head)
        super()._init_auxiliary_head(auxiliary_head)

    def _with_channels(self, head: Mapping[str, Any]) -> dict[str, Any]:
        channels, index = self.backbone.channels, head["in_index"]
        several = isinstance(index, Sequence)
        return {"in_channels": [channels[i] for i in index] if several else channels[index], **head}

    def test_step(self, data: Any) -> Any:
        """Return predictions for a batch; several views of an image (TestTimeAug) give one."""
        if isinstance(data["inputs"][0], torch.Tensor):
            return super().test_step(data)
        merged: list[MeanOfViews] = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            views = super().test_step({"inputs": inputs, "data_samples": samples})
            merged = merged or [MeanOfViews() for _ in views]
            for image, view in zip(merged, views, strict=True):
                image.add(view)
        return [image.result() for image in merged]

    val_step = test_step


class MeanOfViews:
    """The mean of the class probabilities of an image's views decides (mmseg SegTTAModel).

    The probabilities (classes, H, W) are summed in place: one map is kept, however many views.
    """

    def __init__(self) -> None:
        self.first: Any = None

    def add(self, view: Any) -> None:
        """Add a view, a SegDataSample, and take its logits away; the first one is the result's."""
        probabilities = view.seg_logits.data.softmax(dim=0)
        del view.seg_logits
        if self.first is None:
            self.first, self.sum = view, probabilities
        else:
            self.sum += probabilities

    def result(self) -> Any:
        """Return the first view's SegDataSample with the class of the largest sum."""
        self.first.pred_sem_seg.data = self.sum.argmax(dim=0, keepdim=True)
        return self.first


def set_pixels(preprocessor: Any, pixels: PixelStats) -> None:
    """Give PixelStats ([0, 1] units) to a SegDataPreProcessor, whose images are 0 to 255, BGR."""
    with torch.no_grad():
        preprocessor.mean.copy_(255 * torch.tensor(pixels.mean).view(-1, 1, 1))
        preprocessor.std.copy_(255 * torch.tensor(pixels.std).view(-1, 1, 1))
    preprocessor._channel_conversion = pixels.color_order == "RGB"
