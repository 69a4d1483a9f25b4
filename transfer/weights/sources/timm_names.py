"""timm's own state dicts of nets whose names no other source has (ConvNeXt; others by --arch)."""

from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

LEFT = ((r"(head\.fc|head\.weight|head\.bias|fc|classifier|head_dist)(\.|$)", CLASSIFIER),)


def to_timm(raw: Raw) -> Renamed:
    """Keep timm's names; drop tensors that are not the encoder's."""
    return rename(raw.tensors, left=LEFT)


def _recognise(raw: Raw) -> str | None:
    if raw.has(r"stages\.0\.blocks\.0\.conv_dw\."):
        return "timm's ConvNeXt names"
    return None


TIMM = Source(
    "timm",
    "a timm state dict (architectures other than ResNet, ConvNeXt, ViT and BEiT: give --arch)",
    "supervised",
    _recognise,
    to_timm,
    other_pixels="timm's BiT, AugReg and CLIP nets use other mean and std",
)
