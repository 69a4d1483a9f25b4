"""Pretraining checkpoints of the official SparK, ConvNeXt V2 and BEiT code -> our methods.

The encoder's names and architecture come from transfer.weights, as for any released file. `Renamed`
keeps which tensor became which, decoder included, so that gradients can be compared under the
official names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from transfer.weights.architecture import infer_architecture
from transfer.weights.sources import base, convnext, spark

Tensors = Mapping[str, Tensor]
SPARK_DECODER = (
    (r"^dense_decoder\.dec\.(\d+)\.up_sample\.", r"decoder.blocks.\1.up."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.0\.", r"decoder.blocks.\1.conv1."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.1\.", r"decoder.blocks.\1.norm1."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.3\.", r"decoder.blocks.\1.conv2."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.4\.", r"decoder.blocks.\1.norm2."),
    (r"^dense_decoder\.proj\.", "decoder.proj."),
)
SPARK_UNUSED = ("imn_m", "imn_s", "norm_black", "config")


@dataclass(frozen=True)
class Renamed:
    """A method with an official checkpoint's tensors, and {official name: ours}."""

    model: nn.Module
    names: dict[str, str]


def spark_from_official(tensors: Tensors, *, image_size: int, **options: Any) -> Renamed:
    """Build SparK from an official training checkpoint (its "module").

    `options` go to SparK's constructor. Raises ValueError if a tensor is missing or left over.
    """
    tensors = {n: t for n, t in tensors.items() if n not in SPARK_UNUSED}
    encoder = spark.to_timm(base.Raw("the checkpoint", dict(tensors)))
    arch, arch_args = infer_architecture(encoder.tensors, "spark", "the checkpoint")
    model = SparK(
        arch=arch,
        arch_args=arch_args,
        image_size=image_size,
        decoder_width=tensors["dense_decoder.dec.0.up_sample.weight"].shape[0],
        densify_norm="bn" if "densify_norms.0.running_mean" in tensors else "ln",
        **options,
    )
    rest = {n: t for n, t in tensors.items() if n in encoder.unused}
    return _load(model, encoder, base.rename(rest, SPARK_DECODER))


def fcmae_from_official(tensors: Tensors, *, image_size: int, **options: Any) -> Renamed:
    """Build FCMAE from an official training checkpoint, in dense or Minkowski layout.

    `options` go to FCMAE's constructor; the encoder's final norm and head are left out. Raises
    ValueError if a tensor is missing or left over.
    """
    taken = {
        n: t for n, t in tensors.items() if not n.startswith(("encoder.norm.", "encoder.head"))
    }
    encoder = convnext.to_timm(base.Raw("the checkpoint", taken))
    rest = {n: t for n, t in taken.items() if n in encoder.unused}
    arch, arch_args = infer_architecture(encoder.tensors, "fcmae", "the checkpoint")
    model = FCMAE(
        arch=arch,
        arch_args=arch_args,
        image_size=image_size,
        decoder_width=tensors["mask_token"].shape[1],
        decoder_depth=len({n.split(".")[1] for n in rest if n.startswith("decoder.")}),
        **options,
    )
    return _load(model, encoder, base.rename(rest, convnext.NAMES))


def beit_from_official(
    tensors: Tensors, *, image_size: int, num_heads: int, **options: Any
) -> BEiT:
    """Build BEiT from a pretraining checkpoint in unilm's names; sizes come from the tensors.

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
            "init_values": 0 if scale is None else 0.1,
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


def _load(model: nn.Module, encoder: base.Renamed, rest: base.Renamed) -> Renamed:
    names = {official: f"encoder.{ours}" for ours, official in encoder.origin.items()}
    names |= {official: ours for ours, official in rest.origin.items()}
    tensors = {f"encoder.{ours}": t for ours, t in encoder.tensors.items()} | rest.tensors
    own = model.state_dict()
    missing, unexpected = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    if missing or unexpected:
        raise ValueError(
            f"the checkpoint lacks {sorted(missing) or 'nothing'} and has left over "
            f"{sorted(unexpected) or 'nothing'} for {type(model).__name__}"
        )
    model.load_state_dict({name: tensors[name].reshape(own[name].shape) for name in own})
    return Renamed(model, names)
