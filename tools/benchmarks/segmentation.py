"""UperNet: our BEiT-B backbone against MMSegmentation's own BEiT, interleaved.

Both nets have the same heads and see the same batches, and take turns step by step, so that a busy
machine slows both.
"""

import argparse
from functools import partial
from typing import Any

import torch
from torch import nn

from tools.benchmarks.interleave import beside

CONFIG = "configs/segmentation/beit_base_pt_upernet_512.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Size of the batches; the defaults suit a GPU."""
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=512, help="pixels a side")
    parser.add_argument("--steps", type=int, default=20, help="rounds that are timed")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--amp", action="store_true", help="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both, training and inference, and the ratios."""
    from transfer.segmentation.estimate import random_batch

    torch.manual_seed(0)
    device = torch.device(args.device)
    nets = {"ours": _ours(args.crop), "mmsegmentation": _theirs(args.crop)}
    optimizers = {n: torch.optim.SGD(m.parameters(), lr=1e-5) for n, m in nets.items()}
    batch = random_batch(150, (args.crop, args.crop), args.batch)
    result: dict[str, Any] = {"device": str(device), "batch": args.batch, "crop": args.crop}

    def train(name: str) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            data = nets[name].data_preprocessor(batch, training=True)
            losses = nets[name](**data, mode="loss")
        sum(value.sum() for key, value in losses.items() if "loss" in key).backward()
        optimizers[name].step()
        optimizers[name].zero_grad()

    def infer(name: str) -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            data = nets[name].data_preprocessor(batch, training=False)
            nets[name].decode_head(nets[name].extract_feat(data["inputs"]))

    for net in nets.values():
        net.to(device)
    for phase, call in (("training", train), ("inference", infer)):
        for net in nets.values():
            net.train(phase == "training")
        result[phase] = beside(
            phase,
            partial(call, "ours"),
            partial(call, "mmsegmentation"),
            "mmsegmentation",
            args.batch,
            args.steps,
            args.warmup,
            device,
        )
    return result


def _ours(crop: int) -> nn.Module:
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from transfer.segmentation import runner  # noqa: F401  registers what the config names
    from transfer.segmentation.config import fill_in, load_config

    options = [f"crop_size=({crop}, {crop})", f"image_size={crop}", "data_root=unused"]
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(fill_in(load_config(CONFIG, options)).model)


def _theirs(crop: int) -> nn.Module:
    """The same segmentor over MMSegmentation's BEiT-B and its Feature2Pyramid."""
    from mmseg.models.backbones import BEiT
    from mmseg.models.necks import Feature2Pyramid

    net = _ours(crop)
    net.neck = Feature2Pyramid(768, rescales=[4, 2, 1, 0.5], norm_cfg={"type": "BN"})
    net.backbone = BEiT(
        img_size=(crop, crop), out_indices=(3, 5, 7, 11), qv_bias=True, drop_path_rate=0.1,
        init_values=0.1, norm_cfg={"type": "LN", "eps": 1e-6},
    )  # fmt: skip
    return net
