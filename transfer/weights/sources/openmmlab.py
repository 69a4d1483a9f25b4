"""MMSegmentation, MMDetection and MMPretrain checkpoints: the backbone, in their names or others'.

ResNet (deep stems too), ConvNeXt, VisionTransformer, BEiT, MAE. MMSegmentation's MAE has full qkv
biases beside relative position tables, for which timm has no net; its key bias adds the same number
to every logit of a softmax row, so it is left out without any effect.
"""

import re

from torch import Tensor

from pretrain.files.read import WeightsError
from transfer.weights.sources import beit, convnext, resnet, vit
from transfer.weights.sources.base import Raw, Renamed, Source, rename

PARTS = r"(decode_head|auxiliary_head|neck|rpn_head|roi_head|bbox_head|mask_head|head|panoptic\w*)"
LEFT = (
    (PARTS + r"\.", "not the backbone"),
    (r"data_preprocessor\.", "pixel statistics of the net"),
    (r".*relative_position_index$", "recomputed"),
    (r"backbone\.fpn[1-4]\.", "pyramid of the segmentation net"),
)
NAMES = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2."),
    (r"^layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
    (r"^layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
    (r"^layers\.(\d+)\.attn\.attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"^layers\.(\d+)\.attn\.attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^layers\.(\d+)\.", r"blocks.\1."),
    (r"^ln1\.", "norm."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv([12])\.", r".pwconv\1."),
    (r"^stem\.7\.", "bn1."),
    (r"^stem\.([01346])\.", r"conv1.\1."),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename OpenMMLab's tensors to the official names, then to timm's.

    Raises WeightsError for a ResNet of style='caffe', which timm does not have.
    """
    config = str(raw.notes.get("meta", ""))
    if re.search(r"style\s*=\s*'caffe'|style': 'caffe'", config):
        raise WeightsError(
            f"{raw.file}: a ResNet of style='caffe' strides in its 1x1 convolutions, which no timm "
            "ResNet does; use weights trained with style='pytorch'"
        )
    prefix = r"backbone\." if raw.has(r"backbone\.") else ""
    first = rename(raw.tensors, NAMES, prefix=prefix, left=LEFT)
    inner_raw = Raw(raw.file, first.tensors)
    if convnext.is_convnext(inner_raw):
        second = convnext.to_timm(inner_raw)
    elif beit.is_beit(inner_raw):
        second = beit.to_timm(Raw(raw.file, _without_key_bias(first.tensors)))
    elif inner_raw.has(r"layer1\."):
        second = resnet.to_timm(inner_raw)
    else:
        second = vit.to_timm(inner_raw)
    known = dict(first.origin)
    for name in [n for n in known if n.endswith("attn.qkv.bias")]:
        stem = name.removesuffix("qkv.bias")
        known |= {stem + "q_bias": known[name], stem + "v_bias": known[name]}
    origin = {new: known[name] for new, name in second.origin.items()}
    left = {known[name]: why for name, why in second.unused.items()}
    return Renamed(second.tensors, origin, {**first.unused, **left})


def _without_key_bias(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            stem = name.removesuffix("qkv.bias")
            out |= {stem + "q_bias": query.clone(), stem + "v_bias": value.clone()}
        else:
            out[name] = tensor
    return out


def _recognise(raw: Raw) -> str | None:
    heads = raw.has(PARTS + r"\.") or "meta" in raw.notes
    if raw.has(r"backbone\.") and heads and "teacher" not in raw.containers:
        return "a backbone beside heads, or with OpenMMLab's meta"
    if raw.has(r"(backbone\.)?layers\.\d+\.ln1\.") or raw.has(r".*\.(depth|point)wise_conv"):
        return "OpenMMLab's names (layers.N.ln1, depthwise_conv)"
    if raw.has(r"(backbone\.)?stem\.7\."):
        return "OpenMMLab's deep stem (stem.7)"
    return None


OPENMMLAB = Source(
    "openmmlab",
    "MMSegmentation, MMDetection and MMPretrain checkpoints",
    "openmmlab",
    _recognise,
    to_timm,
)
