"""ViTDet's plain ViTs, in trained detectors of Detectron2's projects/ViTDet (.pkl of arrays)."""

from torch import Tensor

from pretrain.files.read import WeightsError
from transfer.weights.sources.base import Raw, Renamed, Source, rename

TABLES = r"backbone\.net\.blocks\.\d+\.attn\.rel_pos_[hw]$"
PYRAMID = r"backbone\.simfp_\d\."
LEFT = (
    (r"(proposal_generator|roi_heads)\.", "not the backbone"),
    (r"pixel_(mean|std)$", "pixel statistics of the net"),
    (PYRAMID, "the detector's pyramid"),
    (TABLES, "decomposed relative positions of the detector"),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename ViTDet's encoder to timm's ViT without a class token."""
    return rename(raw.tensors, prefix=r"backbone\.net\.", left=LEFT, rule=_without_class_row)


def _without_class_row(name: str, tensor: Tensor) -> Tensor:
    """Drop the first row of a position embedding: it was the class token's, and is never read."""
    return tensor[:, 1:] if name == "pos_embed" else tensor


def _recognise(raw: Raw) -> str | None:
    if not raw.has(r"backbone\.net\.blocks\.0\."):
        return None
    raise WeightsError(
        f"{raw.file}: is a detector of ViTDet, whose attention has decomposed relative positions "
        "that no timm ViT has; tools/evaluate_released.py evaluates it whole. To take its encoder "
        "without them, say --source vitdet"
    )


VITDET = Source("vitdet", "ViTDet's detectors", "mae", _recognise, to_timm)
