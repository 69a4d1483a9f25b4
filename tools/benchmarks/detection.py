"""Mask R-CNN: our ResNet-50 wrapper against Detectron2's own ResNet-50, interleaved.

Both nets have the same heads, FPN, weights and trainable BatchNorm, see the same batches, and take
turns step by step, so that a busy machine slows both.
"""

import argparse
import copy
import re
from functools import partial
from typing import Any

import torch
from torch import nn

from tools.benchmarks.interleave import beside

CLASSES = 80
PIXELS = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the size of the batches; the defaults suit a GPU."""
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--steps", type=int, default=20, help="rounds that are timed")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--amp", action="store_true", help="bfloat16")
    parser.add_argument("--arch", default="resnet50", choices=("resnet50", "resnet101"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return images per second of both, in training and inference, and their ratios."""
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    device = torch.device(args.device)
    ours = _ours(args.arch)
    nets = {"ours": ours, "detectron2": _theirs(args.arch, ours)}
    for net in nets.values():
        net.to(device)
    batch = random_batch(args.batch, args.height, args.width)
    optimizers = {n: torch.optim.SGD(m.parameters(), lr=1e-5) for n, m in nets.items()}
    result: dict[str, Any] = {"device": str(device), "batch": args.batch}

    def train(name: str) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            losses = nets[name](batch)
        torch.stack(list(losses.values())).sum().backward()
        optimizers[name].step()
        optimizers[name].zero_grad()

    def infer(name: str) -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            nets[name](batch)

    for phase, call in (("training", train), ("inference", infer)):
        for net in nets.values():
            net.train(phase == "training")
        with EventStorage():
            result[phase] = beside(
                phase,
                partial(call, "ours"),
                partial(call, "detectron2"),
                "detectron2",
                args.batch,
                args.steps,
                args.warmup,
                device,
            )
    return result


def _ours(arch: str) -> nn.Module:
    from transfer.detection.mask_rcnn import mask_rcnn
    from transfer.features import TimmFeatures

    return mask_rcnn(TimmFeatures(arch), num_classes=CLASSES, **PIXELS)


def _theirs(arch: str, ours: nn.Module) -> nn.Module:
    """Build the same detector over Detectron2's ResNet, with timm's strides (3x3 convolution)."""
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet

    bottom_up = ResNet(
        BasicStem(in_channels=3, out_channels=64, norm="BN"),
        ResNet.make_default_stages(
            depth=int(arch.removeprefix("resnet")), stride_in_1x1=False, norm="BN"
        ),
        out_features=["res2", "res3", "res4", "res5"],
    )
    own = ours.backbone.bottom_up.features.encoder.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    names = {_detectron2_name(name): name for name in own.keys() - counters}
    state = {name: own[names[name]] for name in bottom_up.state_dict() if name in names}
    bottom_up.load_state_dict(state, strict=False)
    assert len(state) == len(names)  # every tensor of ours has its place
    net = copy.deepcopy(ours)
    net.backbone.bottom_up = bottom_up
    return net


def _detectron2_name(name: str) -> str:
    """Translate timm's name of a ResNet's tensor to Detectron2's."""
    name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    name = re.sub(r"downsample\.0", "shortcut", name)
    name = re.sub(r"downsample\.1", "shortcut.norm", name)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return f"stem.{name}" if name.startswith("conv") else name


def random_batch(
    size: int, height: int, width: int, classes: int = CLASSES
) -> list[dict[str, Any]]:
    """Return `size` images of noise, each with seven boxes of mixed sizes."""
    from detectron2.structures import BitMasks, Boxes, Instances

    images = []
    for _ in range(size):
        truth = Instances((height, width))
        extent = torch.rand(7, 2) * 0.4 + 0.05
        corner = torch.rand(7, 2) * (1 - extent)
        scale = torch.tensor([width, height])
        boxes = torch.cat([corner * scale, (corner + extent) * scale], 1)
        masks = torch.zeros(7, height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        truth.gt_boxes, truth.gt_masks = Boxes(boxes), BitMasks(masks)
        truth.gt_classes = torch.randint(0, classes, (7,))
        pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        images.append({"image": pixels, "instances": truth, "height": height, "width": width})
    return images
