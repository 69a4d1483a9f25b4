"""ConvNeXt and ConvNeXt V2 as facebookresearch/ConvNeXt and ConvNeXt-V2 name them.

Released, fine-tuned and self-trained files. The self-trained FCMAE checkpoints keep
MinkowskiEngine's layout: kernels (k^2, in, out) with the window's columns first, rows of one for
biases, `ln` and `linear` in the path (ConvNeXt-V2 utils.remap_checkpoint_keys).
"""

import math

from torch import Tensor

from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

NAMES = (
    (r"\.(ln|linear)\.(weight|bias)$", r".\2"),
    (r"\.kernel$", ".weight"),
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
)
LEFT = (
    (r"(encoder\.)?head\.", CLASSIFIER),
    (r"decoder\.", "FCMAE's decoder"),
    (r"mask_token$", "FCMAE's mask token"),
    (r"proj\.", "FCMAE's projection to the decoder"),
    (r"pred\.", "FCMAE's prediction of pixels"),
    (r"(encoder\.)?norm[0-3]\.", "norm of one output: dense nets start their own"),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename official tensors, dense or Minkowski, with or without `encoder.`, to timm's."""
    kernels = {n for n in raw.tensors if n.endswith(".kernel")}
    dense = {n: dense_kernel(t) if n in kernels else t for n, t in raw.tensors.items()}
    return rename(dense, NAMES, prefix=r"encoder\.", left=LEFT, rule=_flat_rows)


def dense_kernel(kernel: Tensor) -> Tensor:
    """Convert (k^2, in, out) to (out, in, k, k), depthwise (k^2, C) to (C, 1, k, k)."""
    side = math.isqrt(kernel.shape[0])
    channels_last = kernel.unsqueeze(1) if kernel.ndim == 2 else kernel
    columns_first = channels_last.permute(2, 1, 0).unflatten(2, (side, side))
    return columns_first.transpose(2, 3).contiguous()


def _flat_rows(name: str, tensor: Tensor) -> Tensor:
    """Remove the axes of length one from the official modules' biases and GRN vectors."""
    vector = name.endswith(".bias") or ".grn." in name
    return tensor.reshape(-1) if vector and tensor.ndim > 1 else tensor


def is_convnext(raw: Raw) -> bool:
    """Return whether the names are those of the official ConvNeXt code."""
    return raw.has(r"(encoder\.)?downsample_layers\.0\.0\.")


def _fcmae(raw: Raw) -> str | None:
    if not is_convnext(raw):
        return None
    if any(name.endswith(".kernel") for name in raw.tensors):
        return "ConvNeXt names with MinkowskiEngine's .kernel: a self-trained FCMAE checkpoint"
    if raw.has(r"(mask_token|pred|decoder)"):
        return "ConvNeXt V2 names with FCMAE's decoder"
    if raw.has(r".*\.grn\.") and not raw.has(r"(encoder\.)?head\."):
        return "ConvNeXt V2 names (grn) without a classifier: a released FCMAE file"
    return None


def _supervised(raw: Raw) -> str | None:
    if not is_convnext(raw) or not raw.has(r"(encoder\.)?(head|norm)\."):
        return None
    version = "ConvNeXt V2 (grn)" if raw.has(r".*\.grn\.") else "ConvNeXt"
    return f"official {version} names with a classifier or final norm: trained on labels"


FCMAE = Source(
    "fcmae", "FCMAE: released, or self-trained with MinkowskiEngine", "fcmae", _fcmae, to_timm
)
CONVNEXT = Source(
    "convnext",
    "ConvNeXt and ConvNeXt V2 trained or fine-tuned on labels",
    "supervised",
    _supervised,
    to_timm,
)
