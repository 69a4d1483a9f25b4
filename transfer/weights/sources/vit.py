"""Plain ViTs in timm's block names: MAE, DeiT, DINO, DINOv2, MoCo v3, trained on labels.

Between files whose keys agree, the wrapping decides: MAE's encoder lies under `model` without a
classifier, DINO's lies bare; the tensors become the same either way.
"""

from torch import Tensor

from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

PREFIX = r"(module\.)?(base_encoder|backbone)\."
NAMES = (
    (r"^register_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2's blocks in chunks
    (r"\.gamma_([12])$", r".ls\1.gamma"),  # DeiT III
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
LEFT = (
    (r"decoder_|decoder\.", "MAE's decoder"),
    (r"((module\.)?backbone\.)?mask_token$", "mask token of the pretraining"),
    (r"(module\.)?momentum_encoder\.", "MoCo's momentum encoder"),
    (r"(module\.)?predictor\.", "MoCo's predictor"),
    (r"(module\.)?base_encoder\.head\.", "MoCo's projection head"),
    (r"(module\.)?(dino|ibot)_head\.", "DINOv2's head"),
    (r"((module\.)?backbone\.)?head(_dist)?\.", CLASSIFIER),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename the tensors to timm's; DINOv2's registers absorb the class token's position."""
    renamed = rename(raw.tensors, NAMES, prefix=PREFIX, left=LEFT)
    if "reg_token" in renamed.tensors:
        renamed.tensors.update(_positions_of_registers(renamed.tensors))
    return renamed


def _positions_of_registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move the class token's position into it: timm's registers embed patches only."""
    position = tensors["pos_embed"]
    return {
        "cls_token": tensors["cls_token"] + position[:, :1],
        "pos_embed": position[:, 1:].contiguous(),
    }


def _is_vit(raw: Raw, prefix: str = "") -> bool:
    return raw.has(prefix + r"blocks\.0\.(\d+\.)?norm1\.") and raw.has(
        prefix + r"patch_embed\.proj\."
    )


def _mocov3(raw: Raw) -> str | None:
    if _is_vit(raw, r"(module\.)?base_encoder\."):
        return "a ViT under base_encoder: a MoCo v3 pretraining file"
    return None


def _dinov2(raw: Raw) -> str | None:
    if (
        _is_vit(raw, r"((module\.)?backbone\.)?")
        and raw.has(r".*ls1\.gamma")
        and raw.has(r".*(mask_token|register_tokens)$")
    ):
        return "ViT names with layer scale and a mask token or registers: DINOv2"
    return None


def _dino(raw: Raw) -> str | None:
    if "teacher" in raw.containers and _is_vit(raw, r"(module\.)?backbone\."):
        return "a ViT under teacher.backbone: a full DINO pretraining file"
    if _is_vit(raw) and not raw.containers and not raw.has(r"(head|fc_norm)"):
        return "bare ViT names without a classifier: DINO's encoder file"
    return None


def _mae(raw: Raw) -> str | None:
    if not _is_vit(raw):
        return None
    if raw.has(r"decoder_embed\."):
        return "ViT names with decoder_embed: MAE with its decoder"
    if raw.has(r"fc_norm\."):
        return "ViT names with fc_norm: MAE, fine-tuned"
    if raw.containers and not raw.has(r"head"):
        return "ViT names under `model` without a classifier: MAE's encoder file"
    return None


def _deit(raw: Raw) -> str | None:
    if not _is_vit(raw):
        return None
    if raw.has(r"dist_token$"):
        return "ViT names with dist_token: DeiT, distilled"
    if raw.containers and raw.has(r"head\."):
        return "ViT names under `model` with a classifier: DeiT"
    return None


def _supervised(raw: Raw) -> str | None:
    if _is_vit(raw) and raw.has(r"head\."):
        return "bare ViT names with a classifier: trained on labels"
    return None


MOCOV3 = Source("mocov3", "MoCo v3 ViT", "mocov3", _mocov3, to_timm)
DINOV2 = Source("dinov2", "DINOv2", "dinov2", _dinov2, to_timm)
DINO = Source("dino", "DINO ViT", "dino", _dino, to_timm)
MAE = Source("mae", "MAE, pretrained or fine-tuned", "mae", _mae, to_timm)
DEIT = Source("deit", "DeiT", "deit", _deit, to_timm)
SUPERVISED = Source(
    "vit",
    "ViT trained on labels (timm)",
    "supervised",
    _supervised,
    to_timm,
    other_pixels="timm's AugReg and Google's ViTs use mean and std 0.5",
)
