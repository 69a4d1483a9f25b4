"""timm-named tensors -> the timm architecture and the arguments that build it.

A known net gets its name alone; any other size gets its family's base name and arguments.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pretrain.files.read import WeightsError
from transfer.features.position import square_window

Tensors = Mapping[str, Tensor]
Architecture = tuple[str, dict[str, Any]]
Told = Mapping[str, Any]

RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
    ("bottleneck", (3, 24, 36, 3)): "resnet200",
}
CONVNEXTS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "convnext_tiny",
    ((3, 3, 27, 3), 96): "convnext_small",
    ((3, 3, 27, 3), 128): "convnext_base",
    ((3, 3, 27, 3), 192): "convnext_large",
    ((3, 3, 27, 3), 256): "convnext_xlarge",
}
CONVNEXTS_WITH_1X1: dict[tuple[tuple[int, ...], int], str] = {  # timm's: convolutions for linears
    ((2, 2, 6, 2), 40): "convnext_atto",
    ((2, 2, 6, 2), 48): "convnext_femto",
    ((2, 2, 6, 2), 64): "convnext_pico",
    ((2, 2, 8, 2), 80): "convnext_nano",
}
CONVNEXTS_V2: dict[tuple[tuple[int, ...], int], str] = {
    ((2, 2, 6, 2), 40): "convnextv2_atto",
    ((2, 2, 6, 2), 48): "convnextv2_femto",
    ((2, 2, 6, 2), 64): "convnextv2_pico",
    ((2, 2, 8, 2), 80): "convnextv2_nano",
    ((3, 3, 9, 3), 96): "convnextv2_tiny",
    ((3, 3, 27, 3), 96): "convnextv2_small",
    ((3, 3, 27, 3), 128): "convnextv2_base",
    ((3, 3, 27, 3), 192): "convnextv2_large",
    ((3, 3, 27, 3), 352): "convnextv2_huge",
}
VITS = {  # (width, depth, patch): timm's name
    (192, 12, 16): "vit_tiny_patch16_224",
    (384, 12, 16): "vit_small_patch16_224",
    (384, 12, 8): "vit_small_patch8_224",
    (384, 12, 32): "vit_small_patch32_224",
    (768, 12, 16): "vit_base_patch16_224",
    (768, 12, 8): "vit_base_patch8_224",
    (768, 12, 32): "vit_base_patch32_224",
    (1024, 24, 16): "vit_large_patch16_224",
    (1280, 32, 14): "vit_huge_patch14_224",
}
DINOV2S = {384: "vit_small", 768: "vit_base", 1024: "vit_large", 1536: "vit_giant"}
BEITS = {(768, 12, 12): "beit_base_patch16_224", (1024, 24, 16): "beit_large_patch16_224"}
HEAD_WIDTH = 64  # of every published ViT but MoCo v3's small one


def infer_architecture(
    tensors: Tensors, source: str, file: str, told: Mapping[str, Any] | None = None
) -> Architecture:
    """Infer the timm name and arguments of the network these tensors belong to.

    `told` are arguments that the tensors may leave open (num_heads); they win.
    Raises WeightsError if the family is unknown, or the tensors leave a number open.
    """
    told = told or {}
    for mark, family in _FAMILIES:
        if any(re.match(mark, name) for name in tensors):
            try:
                name, args = family(tensors, source, told)
                return name, {**args, **told}
            except (KeyError, IndexError, ValueError) as error:
                raise WeightsError(
                    f"{file}: the tensors do not give the whole architecture ({error}); say what "
                    "is missing with --arch-args, or the whole with --arch"
                ) from error
    raise WeightsError(
        f"{file}: no family of architectures has these tensors ({', '.join(list(tensors)[:5])}, "
        "...); say which architecture it is with --arch"
    )


def _count(tensors: Tensors, pattern: str) -> int:
    """Return the highest index in the pattern's group, plus one."""
    found = (re.match(pattern, name) for name in tensors)
    return max((int(match.group(1)) for match in found if match), default=-1) + 1


def _resnet(tensors: Tensors, _source: str, _told: Told) -> Architecture:
    kind = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    layers = tuple(_count(tensors, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
    last, expansion = ("conv3", 4) if kind == "bottleneck" else ("conv2", 1)
    widths = [tensors[f"layer{i}.0.{last}.weight"].shape[0] for i in (1, 2, 3, 4)]
    channels = tuple(width // expansion for width in widths)
    args: dict[str, Any] = {}
    if kind == "bottleneck":
        inner = tensors["layer1.0.conv2.weight"]
        groups = inner.shape[0] // inner.shape[1]
        if (groups, inner.shape[0]) != (1, channels[0]):
            args = {
                "cardinality": groups,
                "base_width": inner.shape[0] * 64 // channels[0] // groups,
            }
    if "conv1.0.weight" in tensors:  # three 3x3 convolutions instead of one 7x7
        width = tensors["conv1.0.weight"].shape[0]
        tiered = tensors["conv1.3.weight"].shape[0] != width
        args |= {"stem_type": "deep_tiered" if tiered else "deep", "stem_width": width}
    shortcut = tensors.get("layer2.0.downsample.1.weight")
    if shortcut is not None and shortcut.ndim == 4:
        args["avg_down"] = True
    known = RESNETS.get((kind, layers))
    if channels == (64, 128, 256, 512):
        variant = _resnet_variant(known, args)
        if variant:
            return variant, {}
    else:
        args["channels"] = list(channels)
    if known is None:
        known = "resnet50" if kind == "bottleneck" else "resnet18"
        args["layers"] = list(layers)
    return known, args


def _resnet_variant(known: str | None, args: Mapping[str, Any]) -> str | None:
    """Return a timm name for `known` with these arguments."""
    if known is None or not args:
        return known
    deep = {"stem_type": "deep", "stem_width": 32}
    variants = {
        f"{known}c": deep,
        f"{known}d": {**deep, "avg_down": True},
        f"{known.replace('resnet', 'resnext')}_32x4d": {"cardinality": 32, "base_width": 4},
        f"{known.replace('resnet', 'resnext')}_32x8d": {"cardinality": 32, "base_width": 8},
        f"wide_{known}_2": {"cardinality": 1, "base_width": 128},
    }
    published = {
        "resnet50c",
        "resnet50d",
        "resnet101c",
        "resnet101d",
        "resnet152c",
        "resnet152d",
        "resnext50_32x4d",
        "resnext101_32x4d",
        "resnext101_32x8d",
        "wide_resnet50_2",
        "wide_resnet101_2",
    }
    return next((n for n, a in variants.items() if a == dict(args) and n in published), None)


def _convnext(tensors: Tensors, _source: str, _told: Told) -> Architecture:
    stages = _count(tensors, r"stages\.(\d+)\.")
    depths = tuple(_count(tensors, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(stages))
    dims = tuple(tensors[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0] for i in range(stages))
    second = any(".grn." in name for name in tensors)
    args: dict[str, Any] = {}
    if (patch := tensors["stem.0.weight"].shape[-1]) != 4:
        args["patch_size"] = patch
    kernels = [tensors[f"stages.{i}.blocks.0.conv_dw.weight"].shape[-1] for i in range(stages)]
    if set(kernels) != {7}:
        args["kernel_sizes"] = kernels if len(set(kernels)) > 1 else kernels[0]
    pointwise = tensors["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4 and not second
    scaled = "stages.0.blocks.0.gamma" in tensors
    if scaled and second:
        args["ls_init_value"] = 1e-6
    doubling = dims == tuple(dims[0] * 2**i for i in range(stages))
    known = CONVNEXTS_V2 if second else CONVNEXTS_WITH_1X1 if pointwise else CONVNEXTS
    name = known.get((depths, dims[0])) if doubling else None
    if not (scaled or second):  # timm's ConvNeXts have a layer scale, V2 without its GRN none
        name, args["use_grn"] = None, False
    if name is None:
        args |= {"depths": list(depths), "dims": list(dims)}
        args |= {"conv_mlp": True} if pointwise else {}
    return name or ("convnext_tiny" if scaled and not second else "convnextv2_atto"), args


def _vit(tensors: Tensors, source: str, told: Told) -> Architecture:
    width, depth, patch = _vit_size(tensors)
    args: dict[str, Any] = {}
    scaled = "blocks.0.ls1.gamma" in tensors
    if "reg_token" in tensors or source == "dinov2" or (scaled and patch == 14):
        name, native = _dinov2_name(tensors, width, told, args), 518
    else:
        name, native = VITS.get((width, depth, patch), ""), 224
        if not name:
            name = "vit_base_patch16_224"
            args |= {"embed_dim": width, "depth": depth, "num_heads": _heads(width, told)}
            args |= {} if patch == 16 else {"patch_size": patch}
        args |= {"init_values": 1e-6} if scaled else {}
    if source == "mocov3" and width == 384:
        args["num_heads"] = 12  # facebookresearch/moco-v3 vits.py: twice timm's
    _vit_positions(tensors, patch, native, args)
    hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
    if hidden != 4 * width and "giant" not in name:
        args["mlp_ratio"] = hidden / width
    if "blocks.0.attn.qkv.bias" not in tensors:
        args["qkv_bias"] = False
    if "dist_token" in tensors:
        name = {192: "deit_tiny", 384: "deit_small", 768: "deit_base"}.get(width, "deit_base")
        name += "_distilled_patch16_224"
    if "fc_norm.weight" in tensors:
        args["global_pool"] = "avg"
    elif "cls_token" not in tensors:
        args |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return name, args


def _vit_positions(tensors: Tensors, patch: int, native: int, args: dict[str, Any]) -> None:
    """Set the image size of the position embedding, if it differs from the name's."""
    extra = sum(token in tensors for token in ("cls_token", "dist_token"))
    positions = tensors["pos_embed"].shape[1]
    if extra and "reg_token" not in tensors and _is_square(positions):
        args["no_embed_class"] = True  # as DeiT III
    elif "reg_token" not in tensors:
        positions -= extra
    if not _is_square(positions):
        raise ValueError(f"{positions} positions are not a square")
    if (size := math.isqrt(positions) * patch) != native:
        args["img_size"] = size


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _vit_size(tensors: Tensors) -> tuple[int, int, int]:
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    return width, _count(tensors, r"blocks\.(\d+)\."), patch


def _dinov2_name(tensors: Tensors, width: int, told: Told, args: dict[str, Any]) -> str:
    """Return the name of a DINOv2 network; put what it does not say into `args`."""
    _, depth, patch = _vit_size(tensors)
    registers = "_reg4" if "reg_token" in tensors else ""
    if width in DINOV2S:
        name = f"{DINOV2S[width]}_patch14{registers}_dinov2"
        published = {384: 12, 768: 12, 1024: 24, 1536: 40}[width]
        args |= {} if depth == published else {"depth": depth}
    else:
        name = f"vit_base_patch14{registers}_dinov2"
        args |= {"embed_dim": width, "depth": depth, "num_heads": _heads(width, told)}
    args |= {} if patch == 14 else {"patch_size": patch}
    if registers and tensors["reg_token"].shape[1] != 4:
        args["reg_tokens"] = tensors["reg_token"].shape[1]
    return name


def _beit(tensors: Tensors, source: str, told: Told) -> Architecture:
    width, depth, patch = _vit_size(tensors)
    shared = "rel_pos_bias.relative_position_bias_table"
    table = tensors.get(shared, tensors.get("blocks.0.attn.relative_position_bias_table"))
    heads = table.shape[1] if table is not None else _heads(width, told)
    name = BEITS.get((width, depth, heads)) if patch == 16 else None
    args: dict[str, Any] = {}
    if name is None:
        args = {"embed_dim": width, "depth": depth, "num_heads": heads}
        args |= {} if patch == 16 else {"patch_size": patch}
    name = name or "beit_base_patch16_224"
    if source == "beitv2":
        name = name.replace("beit_", "beitv2_")
    if table is None:
        args |= {"use_abs_pos_emb": True, "use_rel_pos_bias": False}
        window = int((tensors["pos_embed"].shape[1] - 1) ** 0.5)
    else:
        window = square_window(table.shape[0]) or 0
        if shared in tensors:
            args |= {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False}
        if "pos_embed" in tensors:
            args["use_abs_pos_emb"] = True
    if not window:
        raise ValueError("the relative position table is not that of a square window")
    if window * patch != 224:
        args["img_size"] = window * patch
    if "blocks.0.attn.q_bias" not in tensors:
        args["qkv_bias"] = False
    if "blocks.0.gamma_1" not in tensors:
        args["init_values"] = 0  # none; timm's create_model leaves out an argument of None
    if (hidden := tensors["blocks.0.mlp.fc1.weight"].shape[0]) != 4 * width:
        args["mlp_ratio"] = hidden / width
    if "norm.weight" in tensors:
        args["global_pool"] = "token"  # keeps `norm` in timm's net; "avg" has fc_norm instead
    return name, args


def _heads(width: int, told: Told) -> int:
    if "num_heads" in told:
        return int(told["num_heads"])
    if width % HEAD_WIDTH:
        raise ValueError(f"the number of attention heads of a width of {width} is not known")
    return width // HEAD_WIDTH


_FAMILIES: tuple[tuple[str, Callable[[Tensors, str, Told], Architecture]], ...] = (
    (r"layer1\.0\.", _resnet),
    (r"stages\.0\.blocks\.0\.conv_dw\.", _convnext),
    (r"rel_pos_bias\.|blocks\.0\.attn\.(relative_position_bias_table|q_bias)", _beit),
    (r"blocks\.0\.norm1\.", _vit),
)
