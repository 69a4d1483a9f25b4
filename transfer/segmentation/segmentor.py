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
        """Predictions for a batch; several views of an image (TestTimeAug) give one."""
        predict = super().test_step
        if isinstance(data["inputs"][0], torch.Tensor):
            return predict(data)
        views = [
            predict({"inputs": inputs, "data_samples": samples})
            for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        return [merge_views(image) for image in zip(*views, strict=True)]

    val_step = test_step


def merge_views(views: Sequence[Any]) -> Any:
    """The mean of the views' class probabilities decides (mmseg SegTTAModel)."""
    mean = torch.stack([view.seg_logits.data.softmax(dim=0) for view in views]).mean(0)
    merged = views[0]
    merged.pred_sem_seg.data = mean.argmax(dim=0, keepdim=True)
    return merged


def set_pixels(preprocessor: Any, pixels: PixelStats) -> None:
    """PixelStats ([0, 1] units) -> a SegDataPreProcessor, whose images are 0 to 255, BGR."""
    with torch.no_grad():
        preprocessor.mean.copy_(255 * torch.tensor(pixels.mean).view(-1, 1, 1))
        preprocessor.std.copy_(255 * torch.tensor(pixels.std).view(-1, 1, 1))
    preprocessor._channel_conversion = pixels.color_order == "RGB"
