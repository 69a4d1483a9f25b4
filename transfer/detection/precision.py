"""Mixed precision, and BatchNorm under few images: what of the network stays exact.

In bfloat16 the heads' outputs return to float32 before any loss, and normalisation layers compute
their statistics in float32 (torch's autocast does so).
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from pretrain.batch_norm import synchronised

BACKBONE_NORMS = ("BN", "SyncBN", "FrozenBN")


def losses_in_float32(model: GeneralizedRCNN) -> None:
    """Cast what the losses are computed from; does nothing outside autocast."""
    heads = model.roi_heads
    predictors = heads.box_predictor
    outputs = list(predictors) if isinstance(predictors, nn.ModuleList) else [predictors]
    if heads.mask_on:
        outputs.append(heads.mask_head.predictor)
    for module in (model.proposal_generator.rpn_head, *outputs):
        module.register_forward_hook(lambda _module, _inputs, output: _float(output))


def set_backbone_norm(encoder: nn.Module, kind: str) -> nn.Module:
    """BatchNorm of the encoder as it is, over all processes, or frozen to its statistics."""
    if kind not in BACKBONE_NORMS:
        raise ValueError(f"backbone_norm must be one of {BACKBONE_NORMS}, got {kind!r}")
    if kind == "FrozenBN":
        return freeze_batch_norm_2d(encoder)
    if kind == "SyncBN" and comm.get_world_size() > 1:
        return synchronised(encoder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return encoder


def has_frozen_norm(module: nn.Module) -> bool:
    """Whether any BatchNorm is fixed to the statistics it holds."""
    return any(type(m).__name__.startswith("FrozenBatchNorm") for m in module.modules())


def precise_bn(model: nn.Module, batches: Iterable[Any], count: int) -> None:
    """Set running statistics to their true averages over `count` batches (fvcore's PreciseBN)."""
    if not get_bn_modules(model):
        return
    with torch.no_grad():
        update_bn_stats(model, itertools.islice(batches, count), count)


def _float(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, list | tuple):
        return type(output)(_float(v) for v in output)
    return output
