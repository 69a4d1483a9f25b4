"""Make tests/golden/upernet_*: the authors' segmentors, small, with random weights.

    python -m tools.golden.make_segmentors --unilm DIR --convnext DIR --mmpretrain DIR

Each DIR is a checkout: microsoft/unilm at 768a3c8, facebookresearch/ConvNeXt at 048efce,
open-mmlab/mmpretrain at ee7f2e8. Heads, necks, the sliding window and the other backbones are the
installed MMSegmentation's. Of the first two only the file of the backbone is run.
"""

import argparse
import importlib
import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import mmcv
import mmseg.models.backbones  # registers what the cases name
import mmseg.utils
import numpy as np
import timm
import timm.layers
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden"
CLASSES = ("wall", "building", "sky")
CROP, STRIDE, IMAGE = 64, 42, (80, 96)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # img_norm_cfg of all of them
MMSEG = f"MMSegmentation {metadata.version('onedl-mmsegmentation')} (onedl's continuation)"
VIT = {"embed_dims": 16, "num_layers": 4, "num_heads": 2, "img_size": (64, 64)}
BLOCKS = {"out_indices": (0, 1, 2, 3), "norm_cfg": {"type": "LN", "eps": 1e-6}}
UNRUN = ("utils", "backbones")
DIMS = [8, 12, 16, 24]
PYRAMID = {
    "type": "Feature2Pyramid",
    "embed_dim": 16,
    "rescales": [4, 2, 1, 0.5],
    "norm_cfg": {"type": "BN"},
}


def run_file(path: Path, **stand_ins: Any) -> None:
    """Run one file of a checkout, with `stand_ins` as the mmcv_custom it imports."""
    custom = ModuleType("mmcv_custom")
    custom.__dict__.update(stand_ins)
    sys.modules |= {"mmcv_custom": custom, "timm.models.layers": timm.layers}
    mmseg.utils.get_root_logger = None  # type: ignore[attr-defined]  # named, not called
    spec = importlib.util.spec_from_file_location(f"official_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def unilm(checkout: Path) -> dict[str, Any]:
    """Return unilm's BEiT; it registers itself under the name of MMSegmentation's."""
    MODELS._module_dict.pop("BEiT", None)
    run_file(checkout / "beit/semantic_segmentation/backbone/beit.py", load_checkpoint=None)
    net = MODELS._module_dict.pop("BEiT")
    sizes = {"img_size": 64, "embed_dim": 16, "depth": 4, "num_heads": 2, "qkv_bias": True}
    tables = {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "init_values": 0.1}
    return {"backbone": {"type": net, **sizes, **tables, "out_indices": [0, 1, 2, 3]}}


def convnext(checkout: Path) -> dict[str, Any]:
    """Return the ConvNeXt of facebookresearch/ConvNeXt."""
    run_file(checkout / "semantic_segmentation/backbone/convnext.py", load_checkpoint=None)
    net = MODELS._module_dict.pop("ConvNeXt")
    return {"backbone": {"type": net, "depths": [1, 1, 2, 1], "dims": DIMS}}


def mmpretrain(checkout: Path) -> dict[str, Any]:
    """Return MMPretrain's ConvNeXt, which MMSegmentation's configs name."""
    names = ("mmpretrain", "mmpretrain.models", *(f"mmpretrain.models.{n}" for n in UNRUN))
    for name in names:  # their __init__ import what is not needed
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(checkout / name.replace(".", "/"))]
    norm = importlib.import_module("mmpretrain.models.utils.norm")
    sys.modules["mmpretrain.models.utils"].__dict__.update(vars(norm))
    ConvNeXt = importlib.import_module("mmpretrain.models.backbones.convnext").ConvNeXt  # noqa: N806
    arch = {"depths": [1, 1, 2, 1], "channels": DIMS}
    options = {"layer_scale_init_value": 1.0, "gap_before_final_norm": False}
    return {"backbone": {"type": ConvNeXt, "arch": arch, "out_indices": [0, 1, 2, 3], **options}}


def mmseg_vit(kind: str, **more: Any) -> dict[str, Any]:
    """Return MMSegmentation's BEiT or MAE and its pyramid."""
    from mmseg.models import backbones

    return {
        "backbone": {"type": getattr(backbones, kind), **VIT, **BLOCKS, **more},
        "neck": PYRAMID,
    }


def mmseg_resnet() -> dict[str, Any]:
    """Return MMSegmentation's ResNet-50, version 1c, four channels wide."""
    widths = {"base_channels": 4, "stem_channels": 4}
    kind = {"type": "ResNetV1c", "depth": 50, "style": "pytorch", "contract_dilation": True}
    return {"backbone": {**kind, **widths}}


def build(net: dict[str, Any], channels: list[int], mode: str) -> Any:
    """Return MMSegmentation's EncoderDecoder with UPerNet and the auxiliary head, evaluating."""
    norm = {"type": "BN", "requires_grad": True}
    head = {"num_classes": len(CLASSES), "norm_cfg": norm, "align_corners": False}
    window = {"crop_size": (CROP, CROP), "stride": (STRIDE, STRIDE)} if mode == "slide" else {}
    model = MODELS.build(
        {
            "type": "EncoderDecoder",
            **net,
            "decode_head": {
                "type": "UPerHead",
                "in_channels": channels,
                "in_index": [0, 1, 2, 3],
                "pool_scales": (1, 2, 3, 6),
                "channels": 8,
                **head,
            },
            "auxiliary_head": {
                "type": "FCNHead",
                "in_channels": channels[2],
                "in_index": 2,
                "channels": 6,
                "num_convs": 1,
                "concat_input": False,
                **head,
            },
            "test_cfg": ConfigDict(mode=mode, **window),
        }
    )
    draw_weights(model)
    nn.Module.train(model, False)
    return model


def draw_weights(model: nn.Module) -> None:
    """Draw every weight, running statistic and table, so that none is at its initial value."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            positive = name.endswith(("running_var", "weight")) or "gamma" in name
            nn.init.uniform_(tensor, 0.5, 1.5) if positive else nn.init.normal_(tensor, std=0.2)
        else:
            inputs = tensor[0].numel() if tensor.ndim > 2 else tensor.shape[-1]
            nn.init.normal_(tensor, std=inputs**-0.5)


def write(name: str, source: str, net: dict[str, Any], channels: list[int], mode: str) -> None:
    """Build, run and write one case."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build(net, channels, mode)
    images = np.random.default_rng(0).integers(0, 256, (1, *IMAGE, 3), dtype=np.uint8)  # BGR
    images = np.stack([mmcv.imresize(mmcv.imresize(i, (12, 10)), IMAGE[::-1]) for i in images])
    normal = [mmcv.imnormalize(i, np.array(MEAN), np.array(STD), to_rgb=True) for i in images]
    pixels = torch.from_numpy(np.stack(normal)).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = model.extract_feat(pixels[..., :CROP, :CROP])
        tensors = {
            "images": torch.from_numpy(images).permute(0, 3, 1, 2),
            "decode_head": model.decode_head(maps),
            "auxiliary_head": model.auxiliary_head(maps),
            "logits": model.inference(
                pixels, [{"ori_shape": IMAGE, "img_shape": IMAGE} for _ in images]
            ),
        }
        tensors |= {f"map:{i}": m for i, m in enumerate(maps)}
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "case.safetensors")
    weights = {n: t.contiguous() for n, t in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    spec = {
        "source": f"{source}; heads and test: {MMSEG}",
        "crop": CROP,
        "stride": STRIDE,
        "mode": mode,
        "images": "BGR, as they are read; the first four maps and both heads see the first crop",
        "mean": MEAN,
        "std": STD,
        "classes": CLASSES,
        "tolerance": "relative 1e-4",
    }
    (folder / "case.json").write_text(json.dumps(spec, indent=1) + "\n")
    print(name, {n: float(t.abs().max()) for n, t in tensors.items() if n != "images"})


def main() -> None:
    """Write the cases whose code is at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("unilm", "convnext", "mmpretrain"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    beit = "microsoft/unilm beit/semantic_segmentation/backbone/beit.py, commit 768a3c8"
    cnx = "facebookresearch/ConvNeXt semantic_segmentation/backbone/convnext.py, commit 048efce"
    mm_cnx = "open-mmlab/mmpretrain mmpretrain/models/backbones/convnext.py, commit ee7f2e8"
    vit = [16] * 4
    with DefaultScope.overwrite_default_scope("mmseg"):
        write("upernet_beit", beit, unilm(args.unilm), vit, "slide")
        write("upernet_convnext", cnx, convnext(args.convnext), DIMS, "slide")
        write("upernet_mmseg_convnext", mm_cnx, mmpretrain(args.mmpretrain), DIMS, "slide")
        net = mmseg_vit("BEiT", qv_bias=True, init_values=0.1)
        write("upernet_mmseg_beit", f"{MMSEG}, BEiT", net, vit, "slide")
        net = mmseg_vit("MAE", init_values=1.0)
        write("upernet_mmseg_mae", f"{MMSEG}, MAE", net, vit, "slide")
        resnet = [16, 32, 64, 128]
        write("upernet_mmseg_resnet", f"{MMSEG}, ResNetV1c", mmseg_resnet(), resnet, "whole")


if __name__ == "__main__":
    main()
