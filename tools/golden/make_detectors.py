"""Make tests/golden/detectron2_*: the authors' detectors, small, with random weights.

    python -m tools.golden.make_detectors --detectron2 DIR

DIR is a checkout of facebookresearch/detectron2 at 02b5c4e; its compiled operators are not needed.
It is imported instead of an installed Detectron2.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import timm.layers
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

Tensors = Mapping[str, torch.Tensor]
OUT = Path(__file__).resolve().parents[2] / "tests" / "golden"
COMMIT = "facebookresearch/detectron2, commit 02b5c4e"
CLASSES = 3
CHANNELS = 12
DETECTIONS = 30
SIZES = (((96, 128), (80, 112)), ((128, 100), (90, 128)))  # of hierarchical nets, of plain ViTs
WINDOW, IMAGE = 3, 128
# standard deviations, so that random weights give scores and boxes of all kinds
SPREAD = {  # of layers in Detectron2's names and MMDetection's
    r"objectness_logits$|rpn_cls$": 1.0,
    r"anchor_deltas$|rpn_reg$": 0.3,
    r"cls_score$|fc_cls$": 1.0,
    r"bbox_pred$|fc_reg$": 0.3,
    r"mask_head.predictor$|conv_logits$": 0.3,
}


def zoo(checkout: Path, name: str) -> nn.Module:
    """Return the model of a yaml file of the zoo, small."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(str(checkout / "configs" / name))
    model = cfg.MODEL
    model.DEVICE = "cpu"
    model.RESNETS.RES2_OUT_CHANNELS, model.RESNETS.WIDTH_PER_GROUP = 16, 4
    model.FPN.OUT_CHANNELS = CHANNELS
    model.ROI_HEADS.NUM_CLASSES = CLASSES
    model.ROI_BOX_HEAD.FC_DIM, model.ROI_MASK_HEAD.CONV_DIM = 16, 8
    cfg.TEST.DETECTIONS_PER_IMAGE = DETECTIONS
    return build_model(cfg)


def vitdet(checkout: Path, name: str) -> nn.Module:
    """Return the model of a lazy config of ViTDet, small."""
    from detectron2.config import LazyConfig, instantiate

    model = LazyConfig.load(str(checkout / "projects/ViTDet/configs/COCO" / name)).model
    net, heads = model.backbone.net, model.roi_heads
    net.update(embed_dim=32, depth=8, num_heads=2, img_size=IMAGE, window_size=WINDOW)
    net.update(pretrain_img_size=64, window_block_indexes=[0, 2, 4, 6], drop_path_rate=0.0)
    model.backbone.update(out_channels=CHANNELS, square_pad=IMAGE)
    model.proposal_generator.head.in_channels = CHANNELS
    heads.num_classes = CLASSES
    for head in heads.get("box_heads") or [heads.box_head]:
        head.input_shape.channels = CHANNELS
        head.update(conv_dims=[8, 8], fc_dims=[16])
    for predictor in heads.get("box_predictors") or [heads.box_predictor]:
        predictor.input_shape.channels = 16
        predictor.test_topk_per_image = DETECTIONS
    heads.mask_head.input_shape.channels = CHANNELS
    heads.mask_head.conv_dims = [8, 8, 8]
    return instantiate(model)


def draw_weights(model: nn.Module) -> None:
    """Draw every weight, running statistic and table, so that none is at its initial value."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            positive = name.endswith(("running_var", "weight"))
            nn.init.uniform_(tensor, 0.5, 1.5) if positive else nn.init.normal_(tensor, std=0.2)
        else:
            inputs = tensor[0].numel() if tensor.ndim > 2 else tensor.shape[-1]
            nn.init.normal_(tensor, std=inputs**-0.5)


def spread(model: nn.Module, predict: Callable[[], Any]) -> None:
    """Centre and scale the last layers so that their outputs in `predict` are as SPREAD says."""
    done = set()

    def scale(module: nn.Module, _: Any, out: torch.Tensor, name: str, wanted: float) -> Any:
        if name in done or out.numel() < 2:
            return out
        done.add(name)
        mean = out.transpose(0, 1).flatten(1).mean(1)
        centred = out - mean.view(1, -1, *[1] * (out.ndim - 2))
        factor = wanted / centred.std()
        module.bias.sub_(mean).mul_(factor)
        module.weight.mul_(factor)
        return centred * factor

    hooks = [
        module.register_forward_hook(partial(scale, name=name, wanted=wanted))
        for name, module in model.named_modules()
        for part, wanted in SPREAD.items()
        if re.search(part, name)
    ]
    with torch.no_grad():
        predict()
    for hook in hooks:
        hook.remove()


def draw_image(rng: np.random.Generator, size: tuple[int, int]) -> torch.Tensor:
    """Return smooth random colours, uint8 (3, H, W)."""
    small = Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
    return torch.from_numpy(np.array(small.resize(size[::-1]))).permute(2, 0, 1)


def run(model: Any, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return maps, proposals and detections of the images, one after the other."""
    tensors = {}
    for i, image in enumerate(images):
        batch = [{"image": image}]
        with torch.no_grad():
            seen = model.preprocess_image(batch)
            maps = model.backbone(seen.tensor)
            proposals, _ = model.proposal_generator(seen, maps, None)
            (found,) = model.inference(batch, do_postprocess=False)
        tensors |= {f"image:{i}": image, f"proposals:{i}": proposals[0].proposal_boxes.tensor[:50]}
        if i == 0:
            tensors |= {f"map:{name}:0": value for name, value in maps.items()}
        tensors |= {
            f"boxes:{i}": found.pred_boxes.tensor,
            f"scores:{i}": found.scores,
            f"classes:{i}": found.pred_classes,
            f"masks:{i}": found.pred_masks,
        }
    return tensors


def write(name: str, source: str, model: Any, sizes: Any, layout: str) -> None:
    """Draw weights and images, run and write one case."""
    torch.manual_seed(0)
    draw_weights(model)
    nn.Module.train(model, False)
    rng = np.random.default_rng(0)
    images = [draw_image(rng, size) for size in sizes]
    spread(model, lambda: model.inference([{"image": images[0]}]))
    spec = {
        "source": f"{source} ({COMMIT})",
        "detector": layout,
        "mean": [float(v) for v in model.pixel_mean.flatten()],
        "std": [float(v) for v in model.pixel_std.flatten()],
        "color_order": model.input_format,
    }
    save(name, spec, run(model, images), model.state_dict())


def save(name: str, spec: Mapping[str, Any], tensors: Tensors, weights: Tensors) -> None:
    """Write the three files of a case."""
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    for file, content in {"case": tensors, "weights": weights}.items():
        path = folder / f"{file}.safetensors"
        save_file({n: t.contiguous() for n, t in content.items()}, path)
        path.chmod(0o644)
    spec = {
        **spec,
        "max_detections": DETECTIONS,
        "images": "in color_order, 0 to 255, as the net sees them before normalisation",
        "tolerance": "relative 1e-4",
    }
    (folder / "case.json").write_text(json.dumps(spec, indent=1) + "\n")
    print(name, {n: (tuple(t.shape), float(t.float().abs().mean())) for n, t in tensors.items()})


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectron2", type=Path, required=True)
    checkout = parser.parse_args().detectron2.resolve()
    sys.path.insert(0, str(checkout))
    sys.modules["timm.models.layers"] = timm.layers  # its former name
    finder = ModuleType("pkg_resources")  # gone from setuptools; finds a config by its path
    finder.resource_filename = lambda _, path: str(  # type: ignore[attr-defined]
        checkout / path.removeprefix("model_zoo/") if path else checkout
    )
    sys.modules["pkg_resources"] = finder
    torch.set_num_threads(1)
    stage, plain = SIZES
    for name, file in {
        "detectron2_resnet": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
        "detectron2_resnet_cascade": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    }.items():
        write(name, f"configs/{file}", zoo(checkout, file), stage, "detectron2_resnet")
    for name, file in {
        "detectron2_vitdet": "mask_rcnn_vitdet_b_100ep.py",
        "detectron2_vitdet_cascade": "cascade_mask_rcnn_vitdet_b_100ep.py",
    }.items():
        write(name, f"projects/ViTDet/configs/COCO/{file}", vitdet(checkout, file), plain, "vitdet")


if __name__ == "__main__":
    main()
