"""A converted encoder in MMSegmentation's own backbone, loaded by its own init_cfg: the proof."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmseg.models.backbones import BEiT, ResNet, ResNetV1c, VisionTransformer
from torch import Tensor, nn

from transfer.features.position import square_window
from transfer.features.timm_features import spread_blocks
from transfer.weights import safe_read

DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


def backbone_for(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path
) -> nn.Module:
    """Return MMSegmentation's net for timm-named `tensors`.

    LookupError where it has no net of that size.
    """
    init = {"type": "Pretrained", "checkpoint": str(path)}
    kind = settings["backbone"]["type"]
    if kind.startswith("ResNet"):
        return _resnet(tensors, {"ResNet": ResNet, "ResNetV1c": ResNetV1c}[kind], init)
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    depth = len({n.split(".")[1] for n in tensors if n.startswith("blocks.")})
    table = next((t for n, t in tensors.items() if n.endswith("position_bias_table")), None)
    window = square_window(table.shape[0]) if table is not None else _grid(tensors)
    common = {
        "img_size": (window or 0) * patch,
        "patch_size": patch,
        "embed_dims": width,
        "num_layers": depth,
        "num_heads": table.shape[1] if table is not None else max(width // 64, 1),
        "mlp_ratio": tensors["blocks.0.mlp.fc1.weight"].shape[0] // width,
        "out_indices": sorted(set(spread_blocks(depth))),
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "init_cfg": init,
    }
    if kind == "BEiT":
        return BEiT(init_values=0.1, **common)
    return VisionTransformer(patch_bias=True, **common)


def _grid(tensors: Mapping[str, Tensor]) -> int:
    return round((tensors["pos_embed"].shape[1] - 1) ** 0.5)


def _resnet(tensors: Mapping[str, Tensor], kind: type, init: dict[str, str]) -> nn.Module:
    layers = tuple(
        len({n.split(".")[1] for n in tensors if n.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)
    )
    bottleneck = "layer1.0.conv3.weight" in tensors
    if layers not in DEPTHS:
        raise LookupError(f"MMSegmentation has no ResNet of {layers} blocks")
    depth = 50 if bottleneck and layers == (3, 4, 6, 3) else DEPTHS[layers]
    last = "conv3" if bottleneck else "conv2"
    width = tensors[f"layer1.0.{last}.weight"].shape[0] // (4 if bottleneck else 1)
    return kind(depth=depth, base_channels=width, norm_eval=False, init_cfg=init)


@torch.no_grad()
def maps_of_file(
    path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], images: Tensor
) -> list[Tensor]:
    """Return the maps of the file in MMSegmentation's net; ValueError where keys are left over."""
    net: Any = backbone_for(tensors, settings, path)
    unused = sorted(set(safe_read(path)["state_dict"]) - set(net.state_dict()))
    if unused:
        raise ValueError(f"{path}: MMSegmentation has no place for {', '.join(unused[:5])}")
    net.init_weights()
    net.eval()
    maps = list(net.to(images.dtype)(images))
    if hasattr(net, "layers"):  # one map per distinct block: repeat it where two levels share one
        blocks = spread_blocks(len(net.layers))
        maps = [maps[sorted(set(blocks)).index(i)] for i in blocks]
    return maps
