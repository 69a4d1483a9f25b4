"""What travels with the weights besides tensors: architecture, pixel statistics, colour order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pretrain.files.encoder_file import EncoderIdentity
from pretrain.files.read import WeightsError
from transfer.features.timm_features import build_encoder, dense_arch_args

RESIZABLE = ("pos_embed", "relative_position_bias_table", "patch_embed.proj.weight")
_BEIT_FORM = ("use_shared_rel_pos_bias", "use_rel_pos_bias", "use_abs_pos_emb", "global_pool")


@dataclass(frozen=True)
class PixelStats:
    """How the encoder wants its pixels: (x - mean) / std, x in [0, 1], channels in color_order."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_order: str

    @classmethod
    def of(cls, identity: EncoderIdentity) -> "PixelStats":
        """Return the pixel statistics of an encoder file."""
        return cls(identity.pixel_mean, identity.pixel_std, identity.color_order)


IMAGENET = PixelStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB")


def transfer_arch_args(arch: str, arch_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `arch_args` without pretraining's own: image size and BEiT's shared table.

    Equal for a pretrained encoder and the same backbone from scratch.
    """
    args = dict(arch_args or {})
    args.pop("img_size", None)
    args.pop("global_pool", None)
    if arch.startswith("beit") and not args.get("use_abs_pos_emb", False):
        for name in _BEIT_FORM:
            args.pop(name, None)
    return json.loads(json.dumps(args))


def require_same_architecture(
    identity: EncoderIdentity, arch: str, arch_args: Mapping[str, Any] | None, file: str
) -> None:
    """Raise WeightsError if the file's encoder is not the network asked for.

    Two names for one net are the same net (deit_base_patch16_224 and vit_base_patch16_224); the
    file's own name without arch_args means the file's arch_args.
    """
    theirs = (
        identity.arch.partition(".")[0],
        transfer_arch_args(identity.arch, identity.arch_args),
    )
    ours = (arch.partition(".")[0], transfer_arch_args(arch, arch_args))
    if ours == theirs or (ours[0] == theirs[0] and not arch_args):
        return
    if _structure(*ours) == _structure(*theirs):
        return
    raise WeightsError(
        f"{file}: holds {theirs[0]} {theirs[1] or ''}, the config asks for {ours[0]} "
        f"{ours[1] or ''}; leave arch and arch_args out of the config (then they come from the "
        "file), or give the weights of that architecture"
    )


def _structure(arch: str, arch_args: Mapping[str, Any]) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return modules and tensor shapes, without what is resized when weights load."""
    with torch.device("meta"):
        encoder = build_encoder(arch, dense_arch_args(arch_args))
    shapes = {n: tuple(t.shape) for n, t in encoder.state_dict().items()}
    if hasattr(encoder, "patch_embed"):
        encoder.patch_embed = torch.nn.Identity()
    return repr(encoder), {n: s for n, s in shapes.items() if not n.endswith(RESIZABLE)}
