"""timm names -> the names of Detectron2's ResNet and of MMSegmentation's own backbones.

Only nets that the framework itself has; the others go in through this suite's backbones, which
take the encoder file. What the framework's net has no place for is left out and listed.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pretrain.files.encoder_file import write_encoder
from pretrain.files.read import WeightsError
from pretrain.files.write import atomic_write, write_safetensors
from transfer.weights.convert import Weights
from transfer.weights.load import SHARED_TABLE, TABLE
from transfer.weights.sources.base import FINAL_NORM

Target = Literal["encoder", "timm", "detectron2", "mmseg"]
TARGETS: tuple[Target, ...] = get_args(Target)
Names = Sequence[tuple[str, str]]

D2_RESNET: Names = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"^layer1\.", "res2."),
    (r"^layer2\.", "res3."),
    (r"^layer3\.", "res4."),
    (r"^layer4\.", "res5."),
)
MM_RESNET: Names = ((r"^conv1\.(\d)\.", r"stem.\1."),)
MM_BEIT: Names = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"layers.\1.ln\2."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"^blocks\.", "layers."),
)
MM_VIT: Names = (
    *MM_BEIT,
    (r"\.attn\.qkv\.", ".attn.attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.attn.out_proj."),
)


@dataclass(frozen=True)
class Export:
    """Tensors in a framework's names, what it has no place for, and how to build its net."""

    tensors: dict[str, Tensor]
    left: dict[str, str]  # timm name -> why it is not in the file
    settings: dict[str, Any] = field(default_factory=dict)


def export(weights: Weights, target: str) -> Export:
    """Name the tensors as `target` does.

    Raises WeightsError if the target has no such network.
    """
    if target in ("encoder", "timm"):
        return Export(dict(weights.tensors), {})
    if target == "detectron2":
        return _detectron2(weights)
    if target == "mmseg":
        return _mmseg(weights)
    raise WeightsError(f"--to is one of {', '.join(TARGETS)}, got {target!r}")


def write_export(exported: Export, weights: Weights, target: str, out: Path) -> None:
    """Write in the format that the target's loader reads, in one step."""
    tensors = {n: t.detach().cpu().contiguous() for n, t in exported.tensors.items()}
    if target == "encoder":
        write_encoder(out, tensors, weights.identity)
    elif target == "detectron2":
        model = {n: t.numpy() for n, t in tensors.items()}
        content = {"model": model, "__author__": "mim-transfer", "matching_heuristics": True}
        atomic_write(out, lambda p: p.write_bytes(pickle.dumps(content)))
    elif target == "mmseg":
        atomic_write(out, lambda p: torch.save({"state_dict": tensors, "meta": {}}, p))
    elif out.suffix == ".safetensors":
        atomic_write(out, lambda p: write_safetensors(p, tensors))
    else:
        atomic_write(out, lambda p: torch.save(tensors, p))


def require_suffix(target: str, out: Path) -> None:
    """Raise WeightsError if the target's loader would read the file name as another format."""
    wanted = {
        "encoder": (".safetensors",),
        "timm": (".safetensors", ".pth", ".pt"),
        "detectron2": (".pkl",),
        "mmseg": (".pth",),
    }[target]
    if out.suffix not in wanted:
        raise WeightsError(f"--out {out}: a file for {target} ends in {' or '.join(wanted)}")


def _detectron2(weights: Weights) -> Export:
    tensors = weights.tensors
    if "layer1.0.conv1.weight" not in tensors or "conv1.0.weight" in tensors:
        raise WeightsError(
            f"{weights.file}: Detectron2 has ResNets of one stem convolution only, this is "
            f"{weights.identity.arch}; convert with --to encoder, and name the file as `weights` "
            "of a config in configs/detection"
        )
    named, left = _renamed(tensors, D2_RESNET, lambda n: n.endswith("num_batches_tracked"))
    settings = {
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.NORM": "BN, SyncBN or FrozenBN",
        "INPUT.FORMAT": weights.identity.color_order,
        "MODEL.PIXEL_MEAN": [255 * m for m in weights.identity.pixel_mean],
        "MODEL.PIXEL_STD": [255 * s for s in weights.identity.pixel_std],
    }
    return Export(named, left, settings)


def _mmseg(weights: Weights) -> Export:
    tensors = weights.tensors
    if "layer1.0.conv1.weight" in tensors:
        deep = "conv1.0.weight" in tensors
        names = (*MM_RESNET, (r"^bn1\.", "stem.7.")) if deep else MM_RESNET
        named, left = _renamed(tensors, names, lambda _: False)
        kind: dict[str, Any] = {"type": "ResNetV1c" if deep else "ResNet"}
    elif any(name.endswith(TABLE) for name in tensors):
        named, left = _renamed(_table_a_block(tensors), MM_BEIT, FINAL_NORM.match)
        kind = {"type": "BEiT", "norm_cfg": {"type": "LN", "eps": 1e-6}}
    elif _is_plain_vit(tensors):
        named, left = _renamed(tensors, MM_VIT, FINAL_NORM.match)
        norm = {"type": "LN", "eps": 1e-6}
        kind = {"type": "VisionTransformer", "norm_cfg": norm, "patch_bias": True}
    else:
        raise WeightsError(
            f"{weights.file}: MMSegmentation has no net of its own for {weights.identity.arch} "
            f"{weights.identity.arch_args or ''}; convert with --to encoder, and name the file as "
            "`weights` of a config in configs/segmentation"
        )
    settings = {
        "backbone": kind,
        "data_preprocessor": {
            "mean": [255 * m for m in weights.identity.pixel_mean],
            "std": [255 * s for s in weights.identity.pixel_std],
            "bgr_to_rgb": weights.identity.color_order == "RGB",
        },
    }
    return Export(named, left, settings)


def _is_plain_vit(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether it is a ViT with a class token, without layer scale or other tokens."""
    odd = (
        "dist_token",
        "reg_token",
        "blocks.0.ls1.gamma",
        "norm_pre.weight",
        "blocks.0.attn.q_bias",
    )
    return {"cls_token", "pos_embed", "blocks.0.attn.qkv.bias"} <= set(tensors) and not any(
        name in tensors for name in odd
    )


def _table_a_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy BEiT's shared table into every block, as its fine-tuning code does."""
    out = {n: t for n, t in tensors.items() if n != SHARED_TABLE}
    if SHARED_TABLE in tensors:
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        out |= {f"blocks.{i}.attn.{TABLE}": tensors[SHARED_TABLE].clone() for i in blocks}
    return out


def _renamed(
    tensors: Mapping[str, Tensor], names: Names, leave: Any
) -> tuple[dict[str, Tensor], dict[str, str]]:
    named: dict[str, Tensor] = {}
    left = {name: "no place for it in that net" for name in tensors if leave(name)}
    for name, tensor in tensors.items():
        if name in left:
            continue
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    return named, left
