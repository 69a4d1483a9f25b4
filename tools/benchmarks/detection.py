"""Mask R-CNN over our backbones, against Detectron2's own where it has one, interleaved.

Both nets have the same heads, pyramid, weights and trainable BatchNorm, see the same batches, and
take turns step by step, so that a busy machine slows both. Detectron2 0.6 has ResNets; upstream
has the plain ViT as well, which is timed with random weights.
"""

import copy
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import tyro
from torch import nn

from tools.benchmarks.interleave import beside

CLASSES = 80
PIXELS = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
CONFIGS = {"convnextv2_base": "convnextv2_base_3x", "vit_base": "vit_base_100ep"}
RESNETS = ("resnet50", "resnet101")
Arch = tyro.extras.literal_type_from_choices((*RESNETS, *CONFIGS))
Phase = Literal["training", "inference"]


@dataclass(frozen=True)
class Arguments:
    """The net and the size of the batches; the defaults suit a GPU."""

    arch: Arch = "resnet50"
    """The backbone."""
    batch: int = 2
    """Images of a batch."""
    height: int = 800
    """Pixels of an image's height."""
    width: int = 1216
    """Pixels of an image's width."""
    steps: int = 20
    """Rounds that are timed."""
    warmup: int = 3
    """Rounds before them."""
    amp: bool = False
    """Bfloat16."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where it runs."""
    phases: tuple[Phase, ...] = ("training", "inference")
    """What is timed."""


def run(args: Arguments) -> dict[str, Any]:
    """Return images per second of both, training and inference, and the ratios."""
    if not args.phases:
        raise ValueError("--phases names no phase: give training, inference or both")
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    device = torch.device(args.device)
    nets = detectors(args.arch)
    for net in nets.values():
        net.to(device)
    batch = random_batch(args.batch, args.height, args.width)
    optimizers = {n: torch.optim.SGD(m.parameters(), lr=1e-5) for n, m in nets.items()}
    result: dict[str, Any] = {"device": str(device), "batch": args.batch}

    def training(name: str) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            losses = nets[name](batch)
        result["loss"] = torch.stack(list(losses.values())).sum()
        result["loss"].backward()
        optimizers[name].step()
        optimizers[name].zero_grad()

    def inference(name: str) -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            nets[name](batch)

    for phase in args.phases:
        for net in nets.values():
            net.train(phase == "training")
        call = training if phase == "training" else inference
        calls = {name: partial(call, name) for name in nets}
        with EventStorage():
            result[phase] = beside(phase, calls, args.batch, args.steps, args.warmup, device)
    result["loss"] = float(result["loss"].detach()) if "loss" in result else None
    return result


def detectors(arch: str) -> dict[str, nn.Module]:
    """Return ours, and the same detector over Detectron2's backbone where it has one."""
    if arch in RESNETS:
        ours = _our_resnet(arch)
        return {"ours": ours, "detectron2": _their_resnet(arch, ours)}
    from transfer.detection.build import build_detector
    from transfer.detection.config import load_config

    config = load_config(f"configs/detection/{CONFIGS[arch]}.py", ["weights=none"])
    nets: dict[str, nn.Module] = {"ours": build_detector(config, CLASSES).model}
    if arch == "vit_base" and (backbone := _their_vit()) is not None:
        nets["detectron2"] = copy.deepcopy(nets["ours"])
        nets["detectron2"].backbone = backbone
    return nets


def _our_resnet(arch: str) -> nn.Module:
    from transfer.detection.mask_rcnn import mask_rcnn
    from transfer.features import TimmFeatures

    return mask_rcnn(TimmFeatures(arch), num_classes=CLASSES, **PIXELS)


def _their_vit() -> nn.Module | None:
    """Return upstream's ViT-B as its mask_rcnn_vitdet_b_100ep.py has it; None in Detectron2 0.6."""
    try:
        from detectron2.modeling import SimpleFeaturePyramid, ViT
        from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    except ImportError:
        return None
    net = ViT(
        img_size=1024,
        drop_path_rate=0.1,
        window_size=14,
        window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10),
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        out_feature="last_feat",
    )
    return SimpleFeaturePyramid(
        net=net,
        in_feature="last_feat",
        out_channels=256,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        norm="LN",
        square_pad=1024,
    )


def _their_resnet(arch: str, ours: nn.Module) -> nn.Module:
    """Return the detector over Detectron2's ResNet, strides in the 3x3 convolution as timm's."""
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
