"""A converted ResNet in Detectron2's own net, read by Detectron2's own checkpointer: the proof."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn


def resnet_like(tensors: Mapping[str, Tensor]) -> ResNet:
    """Detectron2's ResNet with the depths and widths of timm-named `tensors`."""
    stages, inputs = [], tensors["conv1.weight"].shape[0]
    bottleneck = "layer1.0.conv3.weight" in tensors
    for i in (1, 2, 3, 4):
        blocks = {name.split(".")[1] for name in tensors if name.startswith(f"layer{i}.")}
        last = "conv3" if bottleneck else "conv2"
        outputs = tensors[f"layer{i}.0.{last}.weight"].shape[0]
        kind: dict[str, Any] = {"block_class": BasicBlock}
        if bottleneck:
            inner = tensors[f"layer{i}.0.conv2.weight"]
            kind = {
                "block_class": BottleneckBlock,
                "bottleneck_channels": inner.shape[0],
                "num_groups": inner.shape[0] // inner.shape[1],
                "stride_in_1x1": False,
            }
        strides = [1 if i == 1 else 2] + [1] * (len(blocks) - 1)
        stages.append(
            ResNet.make_stage(
                num_blocks=len(blocks),
                stride_per_block=strides,
                in_channels=inputs,
                out_channels=outputs,
                norm="BN",
                **kind,
            )
        )
        inputs = outputs
    stem = BasicStem(3, tensors["conv1.weight"].shape[0], norm="BN")
    return ResNet(stem, stages, out_features=["res2", "res3", "res4", "res5"])


def load(net: nn.Module, path: Path) -> list[str]:
    """Load by Detectron2's checkpointer; the file's keys that found no place."""
    logging.getLogger("fvcore.common.checkpoint").setLevel(logging.ERROR)
    logging.getLogger("detectron2.checkpoint.c2_model_loading").setLevel(logging.ERROR)
    checkpointer = _Kept(net)
    checkpointer.load(str(path))
    return checkpointer.left_over


class _Kept(DetectionCheckpointer):
    """Remembers what the checkpointer could not place, which it only logs."""

    def _load_model(self, checkpoint: Any) -> Any:
        given = set(checkpoint["model"])
        result = super()._load_model(checkpoint)
        used = set(self.model.state_dict()) - set(result.missing_keys)
        self.left_over = sorted((given - used) | set(result.unexpected_keys))
        return result


@torch.no_grad()
def maps_of_file(
    path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], images: Tensor
) -> list[Tensor]:
    """res2..res5 of the file in Detectron2's net; ValueError where keys are left over."""
    del settings  # the net's sizes come from the tensors
    net = resnet_like(tensors).eval()
    left = load(net, path)
    if left:
        raise ValueError(f"{path}: Detectron2 has no place for {', '.join(left[:5])}")
    return list(net.to(images.dtype)(images).values())
