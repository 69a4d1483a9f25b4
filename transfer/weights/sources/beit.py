"""BEiT and BEiT v2 (microsoft/unilm beit, beit2): pretrained, or fine-tuned.

Their block names are timm's. Pretrained files share one relative position table, fine-tuned files
have one per block; the first form is kept here and becomes the second when the weights are loaded.
The 1k release of 800 epochs has an absolute position embedding and no tables.
"""

from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

LEFT = (
    (r".*relative_position_index$", "recomputed"),
    (r"mask_token$", "mask token of the pretraining"),
    (r"(cls_pt_)?lm_head\.", "token classifier of the pretraining"),
    (r"cls_pt_(layers|norm)\.", "BEiT v2's extra blocks for the class token"),
    (r"head\.", CLASSIFIER),
    (r"fpn[1-4]\.", "pyramid of the segmentation net"),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename BEiT's tensors to timm's names."""
    return rename(raw.tensors, left=LEFT)


def is_beit(raw: Raw) -> bool:
    """Return whether the names are those of the official BEiT code."""
    tables = raw.has(r"(rel_pos_bias|blocks\.0\.attn)\.relative_position_bias_table")
    return tables or (raw.has(r"blocks\.0\.attn\.q_bias") and raw.has(r"patch_embed\.proj\."))


def _beitv2(raw: Raw) -> str | None:
    if is_beit(raw) and raw.has(r"cls_pt_layers\."):
        return "BEiT names with cls_pt_layers: BEiT v2's pretraining"
    return None


def _beit(raw: Raw) -> str | None:
    if not is_beit(raw):
        return None
    if raw.has(r"rel_pos_bias\."):
        return "one shared relative position table: BEiT's pretraining"
    if raw.has(r"lm_head\."):
        return "q_bias and lm_head without tables: BEiT's pretraining with absolute positions"
    return "a relative position table a block: BEiT, fine-tuned (BEiT v2: --source beitv2)"


BEITV2 = Source("beitv2", "BEiT v2, pretrained or fine-tuned", "beitv2", _beitv2, to_timm)
BEIT = Source(
    "beit",
    "BEiT, pretrained or fine-tuned",
    "beit",
    _beit,
    to_timm,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
    other_pixels="checkpoints pretrained on ImageNet-1k use ImageNet's mean and std "
    "(unilm beit/README.md, --imagenet_default_mean_and_std)",
)
