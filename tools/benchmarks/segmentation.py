"""UperNet: our backbones against those MMSegmentation's configs name, interleaved.

Both nets have the same weights and heads, see the same batches, and take turns step by step, so
that a busy machine slows both. Their BEiT and ResNet are MMSegmentation's own, their ConvNeXt is
mmpretrain's, which this project does not depend on: pip install onedl-mmpretrain model-index
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
from transfer.weights.sources import convnext, openmmlab

CONFIGS = {
    "beit": "configs/segmentation/beit_base_pt_upernet_512.py",
    "convnextv2_base": "configs/segmentation/convnextv2_base_upernet_512.py",
    "convnext": "configs/segmentation/convnext_tiny_upernet_512.py",
    "convnextv2": "configs/segmentation/convnextv2_tiny_upernet_512.py",
    "resnet": "configs/segmentation/resnet50_upernet_512.py",
}
Arch = tyro.extras.literal_type_from_choices(CONFIGS)
Phase = Literal["training", "inference"]
OUTPUT_NORMS = tuple((rf"^norm{i}\.", f"res{i + 2}.") for i in range(4))  # of their ConvNeXt


@dataclass(frozen=True)
class Arguments:
    """The net and the size of the batches; the defaults suit a GPU."""

    arch: Arch = "beit"
    """The backbone."""
    batch: int = 2
    """Crops of a batch."""
    crop: int = 512
    """Pixels per side."""
    steps: int = 20
    """Rounds that are timed."""
    warmup: int = 3
    """Rounds before them."""
    amp: bool = False
    """Bfloat16."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where it runs."""
    alone: bool = False
    """Ours only."""
    phases: tuple[Phase, ...] = ("training", "inference")
    """What is timed."""


def run(args: Arguments) -> dict[str, Any]:
    """Return images per second of both, training and inference, their ratios and difference."""
    from transfer.segmentation.estimate import random_batch

    if not args.phases:
        raise ValueError("--phases names no phase: give training, inference or both")
    torch.manual_seed(0)
    device = torch.device(args.device)
    result: dict[str, Any] = {
        name: getattr(args, name) for name in ("arch", "device", "batch", "crop")
    }
    if args.alone:
        nets = {"ours": our_segmentor(CONFIGS[args.arch], sizes(args.arch, args.crop))[0]}
    else:
        nets = dict(zip(("ours", "openmmlab"), segmentors(args.arch, args.crop), strict=True))
        difference = largest_difference(*nets.values(), args.crop)
        result["largest_difference"] = difference
        print(f"same weights: largest difference of the backbones' maps {difference:.1e}")
    optimizers = {n: torch.optim.SGD(m.parameters(), lr=1e-5) for n, m in nets.items()}
    batch = random_batch(150, (args.crop, args.crop), args.batch)

    def training(name: str) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            data = nets[name].data_preprocessor(batch, training=True)
            losses = nets[name](**data, mode="loss")
        result["loss"] = sum(value.sum() for key, value in losses.items() if "loss" in key)
        result["loss"].backward()
        optimizers[name].step()
        optimizers[name].zero_grad()

    def inference(name: str) -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            data = nets[name].data_preprocessor(batch, training=False)
            nets[name].decode_head(nets[name].extract_feat(data["inputs"]))

    for net in nets.values():
        net.to(device)
    for phase in args.phases:
        for net in nets.values():
            net.train(phase == "training")
        call = training if phase == "training" else inference
        calls = {name: partial(call, name) for name in nets}
        result[phase] = beside(phase, calls, args.batch, args.steps, args.warmup, device)
    result["loss"] = float(result["loss"].detach()) if "loss" in result else None
    return result


def our_segmentor(config: str, options: list[str]) -> tuple[Any, Any]:
    """Return the segmentor of a config file with `options`, and the filled-in config."""
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from transfer.segmentation import runner  # noqa: F401  registers what the config names
    from transfer.segmentation.config import fill_in, load_config

    settings = fill_in(load_config(config, options))
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(settings.model), settings


def sizes(arch: str, crop: int) -> list[str]:
    """Return the options of a config for crops of `crop` pixels, without data."""
    options = [f"crop_size=({crop}, {crop})", "data_root=unused"]
    return [*options, f"image_size={crop}"] if arch == "beit" else options


def segmentors(arch: str, crop: int) -> tuple[nn.Module, nn.Module]:
    """Return ours as its config builds it, and the same over their backbone with our weights."""
    ours, settings = our_segmentor(CONFIGS[arch], sizes(arch, crop))
    theirs = copy.deepcopy(ours)
    theirs.backbone = their_backbone(arch, settings.drop_path_rate, crop)
    take_weights(theirs.backbone, ours.backbone.features)
    if arch == "beit":
        theirs.neck = their_pyramid(ours.backbone.features.pyramid)
    return ours, theirs


def their_backbone(arch: str, drop_path: float, crop: int) -> nn.Module:
    """Build OpenMMLab's backbone with random weights.

    Raises ValueError if mmpretrain is needed and missing.
    """
    from mmseg.models.backbones import BEiT, ResNet

    if arch == "beit":
        return BEiT(
            img_size=(crop, crop),
            out_indices=(3, 5, 7, 11),
            qv_bias=True,
            init_values=0.1,
            drop_path_rate=drop_path,
            norm_cfg={"type": "LN", "eps": 1e-6},
        )
    if arch == "resnet":
        return ResNet(50, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    try:
        from mmpretrain.models.backbones import ConvNeXt
    except ImportError as error:
        raise ValueError(
            f"the ConvNeXt of MMSegmentation's configs is mmpretrain's, which cannot be imported "
            f"({error}): pip install onedl-mmpretrain model-index"
        ) from error
    second = arch.startswith("convnextv2")
    return ConvNeXt(
        "base" if arch.endswith("_base") else "tiny",
        out_indices=[0, 1, 2, 3],
        drop_path_rate=drop_path,
        gap_before_final_norm=False,
        layer_scale_init_value=0.0 if second else 1.0,
        use_grn=second,
    )


def their_pyramid(ours: nn.Module) -> nn.Module:
    """Build MMSegmentation's neck for BEiT with the weights of our backbone's pyramid."""
    from mmseg.models.necks import Feature2Pyramid

    neck = Feature2Pyramid(768, rescales=[4, 2, 1, 0.5], norm_cfg={"type": "BN"})
    neck.load_state_dict(dict(zip(neck.state_dict(), ours.state_dict().values(), strict=True)))
    return neck


def take_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy the tensors of our features; KeyError for a parameter of theirs that ours lacks."""
    own = {**ours.encoder.state_dict(), **ours.norms.state_dict()}
    state = theirs.state_dict()
    parameters = {name for name, _ in theirs.named_parameters()}
    for name, tensor in state.items():
        if name in parameters or our_name(name) in own:
            state[name] = own[our_name(name)].reshape(tensor.shape)
    theirs.load_state_dict(state)


def our_name(name: str) -> str:
    """Translate MMSegmentation's name of a tensor to timm's."""
    for pattern, new in (*openmmlab.NAMES, *convnext.NAMES, *OUTPUT_NORMS):
        name = re.sub(pattern, new, name)
    return name


def largest_difference(ours: nn.Module, theirs: nn.Module, crop: int) -> float:
    """Return the largest difference of both networks' maps, relative to the largest value."""
    image = torch.randn(1, 3, crop, crop)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        pairs = list(zip(ours.extract_feat(image), theirs.extract_feat(image), strict=True))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
