"""A timm encoder -> {"res2": (B, C2, H/4, W/4), ..., "res5": stride 32}.

The wrapped encoder keeps timm's parameter names under `encoder.` and returns timm's tensors bit for
bit; what dense tasks have no use for (head, pooling, final norm) is removed, so that every
parameter takes part in every step. Added on top: one new norm per output for the ConvNeXt
families (norm0-3 of the official detection and segmentation backbones), a pyramid for plain ViTs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.encoders import refuse_empty_sizes, timm_args
from pretrain.run.options import did_you_mean
from transfer.features import plain_vit
from transfer.features.pyramid import BlockPyramid, SimplePyramid

OUT_FEATURES = ("res2", "res3", "res4", "res5")

# arguments by which timm would read a file or ask the network: an architecture has none of them
_NO_ARCHITECTURE = (
    "pretrained",
    "checkpoint_path",
    "cache_dir",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
)


def build_encoder(arch: str, arch_args: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """Build the timm module without a classifier.

    Raises ValueError for a name or argument that timm does not have.
    """
    if not timm.is_model(arch):
        near = did_you_mean(arch, timm.list_models(), count=3)
        raise ValueError(f"timm has no architecture {arch!r}{near}")
    wrong = [name for name in (arch_args or {}) if name in _NO_ARCHITECTURE]
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is not an argument of an architecture: set weights=FILE instead"
        )
    args = {**timm_args(arch, arch_args), **more}
    refuse_empty_sizes(arch, args)
    try:
        return timm.create_model(arch, pretrained=False, num_classes=0, **args)
    except (TypeError, AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"timm cannot build {arch} with arch_args={dict(arch_args or {})}: {error}"
        ) from error


def dense_arch_args(arch_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Replace BEiT's shared position table (pretraining) by one per block, as unilm does."""
    args = dict(arch_args or {})
    if args.pop("use_shared_rel_pos_bias", False):
        args["use_rel_pos_bias"] = True
    return args


def is_plain_vit(arch: str, arch_args: Mapping[str, Any] | None = None) -> bool:
    """Return whether the architecture has only one stride and so needs a pyramid."""
    with torch.device("meta"):
        return isinstance(build_encoder(arch, dense_arch_args(arch_args)), plain_vit.PLAIN_VITS)


def spread_blocks(depth: int) -> tuple[int, ...]:
    """Return four blocks for a pyramid: 3 5 7 11 of 12, 7 11 15 23 of 24 (BEiT), else quarters."""
    if depth == 12:
        return (3, 5, 7, 11)
    if depth == 24:
        return (7, 11, 15, 23)
    return tuple(math.ceil(depth * part / 4) - 1 for part in (1, 2, 3, 4))


class TimmFeatures(nn.Module):
    """Maps of a timm encoder at the strides that `out_features` name (resK: stride 2^K).

    arch_args      of timm.create_model; BEiT's shared table becomes a table per block
    norm_outputs   a new LayerNorm per output; None: ConvNeXt families only
    pyramid        for plain ViTs. "simple": ViTDet's, from the last block, `pyramid_channels`
                   wide; "blocks": BEiT's, from four `blocks`, embedding width; None: the raw maps
                   of `blocks`, all at the patch's stride; "auto": "simple" for plain ViTs
    image_size     plain ViTs only: pixels along a side at which position parameters are stored
                   (default: the architecture's); any size runs, resized within the forward pass
    relative_position  ViTs without one: add a relative position table per block, initially zero
    layer_scale    ViTs without one: add layer scales, initially of this value
    window_size    plain ViTs only: patches along a window's side, 0 = global attention everywhere
    global_blocks  the blocks that stay global with windows; (): four spread evenly, as ViTDet
    freeze         "backbone": the encoder is fixed and in evaluation mode
    checkpointing  recompute the encoder's activations in the backward pass

    Attributes: encoder, norms, pyramid, channels, strides, and `removed`: the names of the timm
    tensors that this net leaves out, and `added`: those of the encoder that no file of the
    architecture has. Raises ValueError for an argument the architecture cannot honour.
    """

    def __init__(
        self,
        arch: str,
        arch_args: Mapping[str, Any] | None = None,
        *,
        out_features: Sequence[str] = OUT_FEATURES,
        norm_outputs: bool | None = None,
        drop_path_rate: float = 0.0,
        pyramid: Literal["auto", "simple", "blocks"] | None = None,
        blocks: Sequence[int] | None = None,
        image_size: int | None = None,
        relative_position: bool = False,
        layer_scale: float | None = None,
        window_size: int = 0,
        global_blocks: Sequence[int] = (),
        pyramid_channels: int = 256,
        freeze: Literal["none", "backbone"] = "none",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if freeze not in ("none", "backbone"):
            raise ValueError(f"freeze must be 'none' or 'backbone', got {freeze!r}")
        self.arch, self.arch_args = arch, dense_arch_args(arch_args)
        self.freeze, self.checkpointing = freeze, checkpointing
        self.out_features = tuple(out_features)
        wanted = {name: _stride(name) for name in self.out_features}
        if image_size and is_plain_vit(arch, arch_args):
            self.arch_args["img_size"] = image_size
        droppable = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        self.encoder: Any = build_encoder(arch, self.arch_args, **droppable)
        everything = set(self.encoder.state_dict())
        self.plain = isinstance(self.encoder, plain_vit.PLAIN_VITS)
        self.pyramid: nn.Module | None = None
        if pyramid == "auto":
            pyramid = "simple" if self.plain else None
        if self.plain:
            self._set_up_vit(wanted, pyramid, blocks, window_size, global_blocks, pyramid_channels)
        else:
            self._set_up_stages(wanted, pyramid, blocks, window_size, image_size)
        if relative_position:
            plain_vit.add_relative_position(self.encoder, arch)
        if layer_scale is not None:
            plain_vit.add_layer_scale(self.encoder, arch, layer_scale)
        here = set(self.encoder.state_dict())
        self.removed, self.added = frozenset(everything - here), frozenset(here - everything)
        self.norms = self._output_norms(norm_outputs)
        if freeze == "backbone":
            self.encoder.requires_grad_(False)
        self.train()

    def _set_up_stages(
        self,
        wanted: dict[str, int],
        pyramid: str | None,
        blocks: Any,
        window_size: int,
        image_size: int | None,
    ) -> None:
        """Choose the stages of a hierarchical network that have the wanted strides."""
        if pyramid or blocks or window_size or image_size:
            raise ValueError(
                f"{self.arch} has stages of its own: pyramid, blocks, window_size and image_size "
                "are for plain ViTs (use an FPN)"
            )
        info = list(getattr(self.encoder, "feature_info", []))
        if not hasattr(self.encoder, "forward_intermediates") or not info:
            raise ValueError(f"timm's {self.arch} cannot return intermediate maps")
        last_of = {stage["reduction"]: i for i, stage in enumerate(info)}
        lacking = [stride for stride in wanted.values() if stride not in last_of]
        if lacking:
            raise ValueError(
                f"{self.arch} has maps at strides {sorted(last_of)}, none at {lacking}"
            )
        self.taken = [last_of[stride] for stride in wanted.values()]
        self.channels = {n: info[i]["num_chs"] for n, i in zip(wanted, self.taken, strict=True)}
        self.strides = dict(wanted)
        self.size_divisibility = max(self.strides.values())
        self.encoder.prune_intermediate_layers(self.taken, prune_norm=True, prune_head=True)
        if self.checkpointing:
            self.encoder.set_grad_checkpointing(True)

    def _set_up_vit(
        self,
        wanted: dict[str, int],
        pyramid: str | None,
        blocks: Sequence[int] | None,
        window_size: int,
        global_blocks: Sequence[int],
        pyramid_channels: int,
    ) -> None:
        """Choose the blocks of a plain ViT, and put the pyramid on them."""
        encoder, depth = self.encoder, len(self.encoder.blocks)
        self.patch_px, width = int(encoder.patch_embed.patch_size[0]), int(encoder.embed_dim)
        encoder.patch_embed.strict_img_size = False
        default = (depth - 1,) if pyramid == "simple" else spread_blocks(depth)[-len(wanted) :]
        self.taken = [_index(i, depth) for i in (default if blocks is None else blocks)]
        count = 1 if pyramid == "simple" else len(wanted)
        if len(self.taken) != count:
            raise ValueError(f"pyramid={pyramid!r} takes {count} blocks, got {self.taken}")
        self.window_size = window_size
        self.global_blocks = {_index(i, depth) for i in (global_blocks or _quarters(depth))}
        self.strides = dict(wanted) if pyramid else dict.fromkeys(wanted, self.patch_px)
        self.size_divisibility = math.lcm(self.patch_px, max(self.strides.values()))
        self.channels = dict.fromkeys(wanted, pyramid_channels if pyramid == "simple" else width)
        if pyramid == "simple":
            self.pyramid = SimplePyramid(width, pyramid_channels, self.patch_px, wanted)
        elif pyramid == "blocks":
            self.pyramid = BlockPyramid(width, self.patch_px, wanted)
        elif pyramid is not None:
            raise ValueError(f"pyramid must be 'simple', 'blocks' or None, got {pyramid!r}")
        encoder.prune_intermediate_layers(self.taken, prune_norm=True, prune_head=True)
        if window_size:
            plain_vit.require_windows_possible(encoder, self.arch)
            plain_vit.drop_extra_tokens(encoder)

    def _output_norms(self, norm_outputs: bool | None) -> nn.ModuleDict:
        if norm_outputs is None:
            norm_outputs = isinstance(self.encoder, ConvNeXt)
        channels = self.channels if norm_outputs else {}
        return nn.ModuleDict({name: LayerNorm2d(c, eps=1e-6) for name, c in channels.items()})

    @property
    def stored_grid(self) -> tuple[int, int]:
        """Patches (h, w) at which a plain ViT's position parameters are stored."""
        return plain_vit.stored_grid(self.encoder)

    @property
    def has_relative_position(self) -> bool:
        """Return whether the blocks have relative position tables, as in BEiT."""
        return plain_vit.has_relative_position(self.encoder)

    def train(self, mode: bool = True) -> "TimmFeatures":
        """Set the mode as nn.Module.train does; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze == "backbone":
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) to {name: (B, channels[name], ~H/stride, ~W/stride)}.

        Plain ViTs: the images are padded with zeros to whole patches, the maps cut back to
        ceil(H / stride), ceil(W / stride).
        """
        maps = self._vit_maps(images) if self.plain else self._stage_maps(images)
        if self.pyramid is not None:
            features = self.pyramid(maps)
        else:
            features = dict(zip(self.out_features, maps, strict=True))
        if self.plain:
            features = {n: self._crop(f, images, self.strides[n]) for n, f in features.items()}
        return {n: self.norms[n](f) if n in self.norms else f for n, f in features.items()}

    def _stage_maps(self, images: Tensor) -> list[Tensor]:
        return self.encoder.forward_intermediates(
            images, indices=self.taken, intermediates_only=True
        )

    def _vit_maps(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.patch_px, 0, -height % self.patch_px))
        tokens, grid = plain_vit.embed(self.encoder, images)
        taken = {}
        for i, block in enumerate(self.encoder.blocks):
            window = 0 if i in self.global_blocks else self.window_size
            args = (block, tokens, grid, self.stored_grid, window)
            if self.checkpointing and self.training:
                tokens = checkpoint(plain_vit.run_block, *args, use_reentrant=False)
            else:
                tokens = plain_vit.run_block(*args)
            if i in self.taken:
                patches = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]
                taken[i] = patches.transpose(1, 2).unflatten(2, grid).contiguous()
        return [taken[i] for i in self.taken]

    @staticmethod
    def _crop(feature: Tensor, images: Tensor, stride: int) -> Tensor:
        height, width = (math.ceil(side / stride) for side in images.shape[-2:])
        return feature[..., :height, :width]


def _stride(name: str) -> int:
    if name not in OUT_FEATURES:
        raise ValueError(f"out_features are among {OUT_FEATURES}, got {name!r}")
    return 2 ** int(name.removeprefix("res"))


def _index(block: int, depth: int) -> int:
    if not -depth <= block < depth:
        raise ValueError(f"block {block} does not exist: the encoder has {depth} blocks")
    return block % depth


def _quarters(depth: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(max(math.ceil(depth * k / 4) - 1, 0) for k in (1, 2, 3, 4)))
