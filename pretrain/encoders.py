"""A timm convnet by name -> its feature maps: which index, how many channels, at which stride."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn

from pretrain.run.options import did_you_mean

# arguments of timm's nets that count layers, channels or pixels
SIZES = frozenset(("depths", "dims", "layers", "channels", "depth", "embed_dim", "num_heads"))
SIZES |= {"patch_size", "img_size"}


@dataclass(frozen=True)
class FeatureMap:
    """One feature map of an encoder, as `forward_intermediates` counts them."""

    index: int
    channels: int
    stride: int  # input pixels along a side of one cell


def build_encoder(
    arch: str, arch_args: Mapping[str, Any] | None = None, drop_path_rate: float = 0.0
) -> nn.Module:
    """Build the timm convnet `arch` without its classifier and the classifier's own layers.

    `arch_args` go to `timm.create_model`; `drop_path_rate` is stochastic depth's rate at the last
    block. Raises ValueError for a name timm does not have, or a model without feature maps.
    """
    if not timm.is_model(arch):
        near = did_you_mean(arch, timm.list_models(), count=4)
        raise ValueError(f"timm has no model {arch!r}{near}")
    kwargs = timm_args(arch, arch_args)
    if drop_path_rate:
        kwargs["drop_path_rate"] = drop_path_rate
    refuse_empty_sizes(arch, kwargs)
    try:
        encoder = timm.create_model(arch, pretrained=False, num_classes=0, **kwargs)
    except (TypeError, AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"timm cannot build {arch} with arch_args={kwargs}: {error}") from error
    if not hasattr(encoder, "forward_intermediates") or not hasattr(encoder, "feature_info"):
        raise ValueError(f"timm's {arch} gives no feature maps: choose a hierarchical convnet")
    last = feature_maps(encoder)[-1].index
    encoder.prune_intermediate_layers(  # type: ignore[operator]
        [last], prune_norm=True, prune_head=True
    )
    return encoder


def timm_args(arch: str, arch_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return arguments for `timm.create_model`, which leaves out every argument of None.

    init_values=None becomes 0, a ViT without layer scale for timm as well. Raises ValueError for
    any other None: timm would build the net with its own value.
    """
    args = dict(arch_args or {})
    if "init_values" in args:
        args["init_values"] = args["init_values"] or 0
    for name, value in args.items():
        if value is None:
            raise ValueError(
                f"arch_args of {arch}: timm takes {name}=None for no argument and builds the net "
                f"with its own {name}; give a value or leave it out"
            )
    return args


def refuse_empty_sizes(arch: str, arch_args: Mapping[str, Any]) -> None:
    """Raise ValueError for a width or depth below 1, with which timm builds a net of nothing."""
    for name in SIZES & arch_args.keys():
        value = arch_args[name]
        sizes = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(size, int | float) and size < 1 for size in sizes):
            raise ValueError(f"arch_args of {arch}: {name}={value} must be at least 1 everywhere")


def feature_maps(encoder: nn.Module) -> list[FeatureMap]:
    """Return the last feature map of each stride from 4 on, high resolution first.

    Raises ValueError if the encoder has none.
    """
    found: dict[int, FeatureMap] = {}
    for index, info in enumerate(encoder.feature_info):  # type: ignore[arg-type]
        found[info["reduction"]] = FeatureMap(index, info["num_chs"], info["reduction"])
    maps = [found[stride] for stride in sorted(found) if stride >= 4]
    if not maps:
        raise ValueError(f"{type(encoder).__name__} has no feature map of stride 4 or more")
    return maps


def run_encoder(encoder: nn.Module, inputs: Tensor, maps: list[FeatureMap]) -> list[Tensor]:
    """Compute `maps` of `inputs` (N, 3, s, s): each (N, C, s / stride, s / stride), in order."""
    return encoder.forward_intermediates(  # type: ignore[operator]
        inputs,
        indices=[m.index for m in maps],
        norm=False,
        stop_early=True,
        intermediates_only=True,
    )
