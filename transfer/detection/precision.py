"""What stays in float32 where autocast computes in bfloat16 or float16.

RoI pooling   Detectron2's ROIAlign casts the boxes to the type of the maps (layers/roi_align.py):
              in bfloat16 a coordinate near 1000 moves in steps of 4 pixels
SyncBN        Detectron2's NaiveSyncBatchNorm casts float16 up and leaves bfloat16 as it is: with
              8 bits E[x^2] - E[x]^2 turns negative
losses        logits and box regressions that they are computed from
"""

from typing import Any

import torch
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn


class Float32ROIPooler(ROIPooler):
    """Detectron2's ROIPooler on float32 copies of the maps, so that the boxes keep their places."""

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Pool maps (B, C, H, W) of each level by boxes in pixels -> (R, C, size, size)."""
        plain = torch.contiguous_format  # what the kernel would make of it in a second copy
        maps = [level.to(torch.float32, memory_format=plain) for level in x]
        return super().forward(maps, box_lists)


class Float32SyncBatchNorm(NaiveSyncBatchNorm):
    """Detectron2's NaiveSyncBatchNorm with statistics in float32, whatever comes in."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """(N, C, H, W) -> the same shape and type."""
        return super().forward(input.float()).to(input.dtype)


def losses_in_float32(model: GeneralizedRCNN) -> None:
    """Cast what the losses are computed from; does nothing outside autocast."""
    heads = model.roi_heads
    predictors = heads.box_predictor
    outputs = list(predictors) if isinstance(predictors, nn.ModuleList) else [predictors]
    if heads.mask_on:
        masks = heads.mask_head
        stages = list(masks) if isinstance(masks, nn.ModuleList) else [masks]
        outputs += [head.predictor for head in stages]
    for module in (model.proposal_generator.rpn_head, *outputs):
        module.register_forward_hook(lambda _module, _inputs, output: _float(output))


def _float(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, list | tuple):
        return type(output)(_float(v) for v in output)
    return output
