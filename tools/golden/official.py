"""Pretraining checkpoints of the official SparK and ConvNeXt-V2 code -> our methods.

Sizes come from the tensors. `Renamed` keeps which tensor became which, decoder included, so that
gradients can be compared under the official names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK

Tensors = Mapping[str, Tensor]


CONVNEXT_NAMES = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^norm\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
    (r"\bdwconv\.", "conv_dw."),
    (r"\bpwconv(\d)\.", r"mlp.fc\1."),
    (r"\bgrn\.gamma$", "mlp.grn.weight"),
    (r"\bgrn\.beta$", "mlp.grn.bias"),
)


SPARK_NAMES = (
    (r"^dense_decoder\.dec\.(\d+)\.up_sample\.", r"decoder.blocks.\1.up."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.0\.", r"decoder.blocks.\1.conv1."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.1\.", r"decoder.blocks.\1.norm1."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.3\.", r"decoder.blocks.\1.conv2."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.4\.", r"decoder.blocks.\1.norm2."),
    (r"^dense_decoder\.proj\.", "decoder.proj."),
)


SPARK_ENCODER = "sparse_encoder.sp_cnn."


SPARK_UNUSED = ("imn_m", "imn_s", "norm_black", "config")


@dataclass(frozen=True)
class Renamed:
    """A method with an official checkpoint's tensors, and {official name: ours}."""

    model: nn.Module
    names: dict[str, str]


def spark_from_official(tensors: Tensors, *, image_size: int, **options: Any) -> Renamed:
    """A SparK with the tensors of an official training checkpoint ("module" of it).

    `options` go to SparK's constructor. Raises ValueError if a tensor is missing or left over.
    """
    tensors = {n: t for n, t in tensors.items() if n not in SPARK_UNUSED}
    encoder = under(tensors, SPARK_ENCODER)
    arch, arch_args = architecture(encoder)
    model = SparK(
        arch=arch,
        arch_args=arch_args,
        image_size=image_size,
        decoder_width=tensors["dense_decoder.dec.0.up_sample.weight"].shape[0],
        densify_norm="bn" if "densify_norms.0.running_mean" in tensors else "ln",
        **options,
    )
    names = {SPARK_ENCODER + n: f"encoder.{convnext_name(n)}" for n in encoder}
    names |= {n: rename(n, SPARK_NAMES) for n in tensors if n not in names}
    return _load(model, tensors, names)


def fcmae_from_official(tensors: Tensors, *, image_size: int, **options: Any) -> Renamed:
    """An FCMAE with the tensors of an official training checkpoint, dense or Minkowski layout.

    `options` go to FCMAE's constructor; the encoder's final norm and head are left out. Raises
    ValueError if a tensor is missing or left over.
    """
    encoder = dense_layout(under(tensors, "encoder."))
    encoder = {n: t for n, t in encoder.items() if not n.startswith(("norm.", "head."))}
    rest = {n: t for n, t in tensors.items() if not n.startswith("encoder.")}
    arch, arch_args = architecture(encoder)
    model = FCMAE(
        arch=arch,
        arch_args=arch_args,
        image_size=image_size,
        decoder_width=tensors["mask_token"].shape[1],
        decoder_depth=len({n.split(".")[1] for n in rest if n.startswith("decoder.")}),
        **options,
    )
    names = {f"encoder.{n}": f"encoder.{convnext_name(n)}" for n in encoder}
    names |= {n: convnext_name(n) for n in rest}
    return _load(model, {f"encoder.{n}": t for n, t in encoder.items()} | rest, names)


def architecture(encoder: Tensors) -> tuple[str, dict[str, Any]]:
    """timm's architecture and arguments for a ResNet's or ConvNeXt's official tensors."""
    if "layer1.0.conv1.weight" in encoder:
        return resnet_architecture(encoder)
    if "downsample_layers.0.0.weight" in encoder:
        return convnext_architecture(encoder)
    raise ValueError(
        "these are no tensors of a ResNet (layer1.0.conv1.weight) or ConvNeXt "
        f"(downsample_layers.0.0.weight); first names: {', '.join(list(encoder)[:3])}"
    )


def convnext_architecture(encoder: Tensors) -> tuple[str, dict[str, Any]]:
    """ConvNeXt (V2 where a GRN is found) with the widths, depths and kernels of the tensors."""
    stages = range(4)
    depthwise = [encoder[f"stages.{i}.0.dwconv.weight"] for i in stages]
    args: dict[str, Any] = {
        "depths": [count(encoder, rf"stages\.{i}\.(\d+)\.") for i in stages],
        "dims": [weight.shape[0] for weight in depthwise],
        "kernel_sizes": [weight.shape[-1] for weight in depthwise],
        "patch_size": encoder["downsample_layers.0.0.weight"].shape[-1],
    }
    if "stages.0.0.grn.gamma" in encoder:
        return "convnextv2_tiny", args
    args["ls_init_value"] = 1e-6 if "stages.0.0.gamma" in encoder else None
    return "convnext_tiny", args


def resnet_architecture(encoder: Tensors) -> tuple[str, dict[str, Any]]:
    """ResNet or ResNeXt, basic or bottleneck, plain or deep stem, with the tensors' sizes."""
    bottleneck = "layer1.0.conv3.weight" in encoder
    last, expansion = ("conv3", 4) if bottleneck else ("conv2", 1)
    stages = range(1, 1 + count(encoder, r"layer(\d+)\."))
    args: dict[str, Any] = {
        "layers": [count(encoder, rf"layer{i}\.(\d+)\.") for i in stages],
        "channels": [encoder[f"layer{i}.0.{last}.weight"].shape[0] // expansion for i in stages],
    }
    if "conv1.0.weight" in encoder:
        width = encoder["conv1.0.weight"].shape[0]
        tiered = encoder["conv1.3.weight"].shape[0] != width
        args |= {"stem_width": width, "stem_type": "deep_tiered" if tiered else "deep"}
    if any(
        f"layer{i}.0.downsample.1.weight" in encoder
        and encoder[f"layer{i}.0.downsample.1.weight"].ndim == 4
        for i in stages
    ):
        args["avg_down"] = True
    width, group = encoder["layer1.0.conv2.weight"].shape[:2]
    if bottleneck and (width != group or width != args["channels"][0]):
        args |= {"cardinality": width // group, "base_width": 64 * group // args["channels"][0]}
    return ("resnet50" if bottleneck else "resnet18"), args


def dense_layout(encoder: Tensors) -> dict[str, Tensor]:
    """MinkowskiEngine's layout -> dense names and shapes; a dense encoder stays as it is.

    Kernels (k k, in, out) or depthwise (k k, C) in column order of the offsets, biases (1, C),
    `ln.`/`linear.` in names, GRN (1, 4C): `remap_checkpoint_keys` of ConvNeXt-V2 `utils.py`.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in encoder.items():
        plain = re.sub(r"\.(ln|linear)\.", ".", name)
        if name.endswith(".kernel"):
            side = round(tensor.shape[0] ** 0.5)
            kernel = tensor.unflatten(0, (side, side))  # (x, y, ...)
            kernel = kernel[:, :, None] if kernel.ndim == 3 else kernel  # depthwise: in = 1
            out[plain.removesuffix("kernel") + "weight"] = kernel.permute(3, 2, 1, 0).contiguous()
        elif ".grn." in name:
            out[plain] = tensor.reshape(1, 1, 1, -1)
        elif name.endswith(".bias"):
            out[plain] = tensor.reshape(-1)
        else:
            out[plain] = tensor
    return out


def convnext_name(name: str) -> str:
    """Official ConvNeXt name -> timm's; a ResNet's names are timm's already."""
    return rename(name, CONVNEXT_NAMES)


def rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def under(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def count(tensors: Tensors, pattern: str) -> int:
    """How many different numbers `pattern`'s group takes at the beginning of the names."""
    found = (re.match(pattern, name) for name in tensors)
    return len({match.group(1) for match in found if match})


def _load(model: nn.Module, tensors: Tensors, names: dict[str, str]) -> Renamed:
    own = model.state_dict()
    lacking = own.keys() - set(names.values())
    left = [official for official, ours in names.items() if ours not in own]
    if lacking or left:
        raise ValueError(
            f"the checkpoint lacks {sorted(lacking) or 'nothing'} and has left over "
            f"{left or 'nothing'} for {type(model).__name__}"
        )
    model.load_state_dict({o: tensors[n].reshape(own[o].shape) for n, o in names.items()})
    return Renamed(model, names)


def from_official(
    tensors: Mapping[str, Tensor], *, image_size: int, num_heads: int, **options: Any
) -> BEiT:
    """A BEiT with the tensors of a pretraining checkpoint of unilm's names; sizes from them.

    `options` go to BEiT's constructor. Raises RuntimeError if a tensor is missing or left over.
    """
    embed_dim, _, patch_size, _ = tensors["patch_embed.proj.weight"].shape
    scale = tensors.get("blocks.0.gamma_1")
    model = BEiT(
        image_size=image_size,
        vocab_size=tensors["lm_head.weight"].shape[0],
        arch_args={
            "patch_size": patch_size,
            "embed_dim": embed_dim,
            "depth": 1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("blocks.")),
            "num_heads": num_heads,
            "mlp_ratio": tensors["blocks.0.mlp.fc1.weight"].shape[0] / embed_dim,
            "qkv_bias": "blocks.0.attn.q_bias" in tensors,
            "init_values": None if scale is None else 0.1,
            "use_abs_pos_emb": "pos_embed" in tensors,
            "use_shared_rel_pos_bias": "rel_pos_bias.relative_position_bias_table" in tensors,
            "use_rel_pos_bias": "blocks.0.attn.relative_position_bias_table" in tensors,
        },
        **options,
    )
    state = {
        name if name.startswith(("lm_head.", "mask_token")) else f"encoder.{name}": tensor
        for name, tensor in tensors.items()
        if not name.endswith("relative_position_index")
    }
    model.load_state_dict({**state, "_extra_state": model.get_extra_state()})
    return model
