"""Make tests/golden/mmdet_*: ConvNeXt's detectors in MMDetection, small, with random weights.

    python -m tools.golden.make_mmdet_detectors --mmdet DIR --convnext DIR --mmpretrain DIR

The first DIR holds MMDetection 3.3.0 as its wheel has it, the others are checkouts:
facebookresearch/ConvNeXt at 048efce, open-mmlab/mmpretrain at ee7f2e8. MMCV's compiled operators
are not needed: NMS and RoIAlign are torchvision's, Soft-NMS is written here after MMCV's
mmcv/ops/csrc/pytorch/cpu/nms.cpp. The authors of ConvNeXt ran a fork of MMDetection 2.11, whose
heads have the same names.
"""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mmcv
import numpy as np
import timm.layers
import torch
import torchvision
from torch import nn

from tools.golden.make_detectors import (
    CHANNELS,
    CLASSES,
    DETECTIONS,
    SIZES,
    draw_image,
    draw_weights,
    save,
    spread,
)

DIMS = [8, 12, 16, 24]
DEPTHS = [1, 1, 2, 1]
VERSION = "heads: MMDetection 3.3.0"


class Operators(ModuleType):
    """Stands in for mmcv._ext."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: (_ for _ in ()).throw(RuntimeError(f"mmcv's {name} is not here"))

    @staticmethod
    def nms(boxes: Any, scores: Any, iou_threshold: float, offset: int) -> torch.Tensor:
        """Return the kept boxes; `offset` is 0."""
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    @staticmethod
    def softnms(boxes: Any, scores: Any, dets: Any, **settings: Any) -> torch.Tensor:
        """Fill `dets` with boxes and decayed scores, the highest first; return their indices."""
        assert (settings["method"], settings["offset"]) == (1, 0)  # linear
        left, scores, order = torch.arange(len(boxes)), scores.clone(), []
        while len(left):
            best = int(left[scores[left].argmax()])
            dets[len(order), :4], dets[len(order), 4] = boxes[best], scores[best]
            order.append(best)
            left = left[left != best]
            overlap = torchvision.ops.box_iou(boxes[best][None], boxes[left])[0]
            scores[left] *= torch.where(overlap >= settings["iou_threshold"], 1 - overlap, 1.0)
            left = left[scores[left] >= settings["min_score"]]
        return torch.tensor(order)


def prepare(mmdet: Path) -> None:
    """Make MMDetection importable beside this MMCV."""
    sys.path.insert(0, str(mmdet))
    sys.modules["mmcv._ext"] = mmcv._ext = Operators("mmcv._ext")
    mmcv.__version__ = "2.1.0"  # MMDetection 3.3.0 refuses later ones by their number
    sys.modules["timm.models.layers"] = timm.layers
    six, tables = ModuleType("six.moves"), ModuleType("terminaltables")  # imported, not needed
    six.__dict__.update(map=map, zip=zip)
    tables.AsciiTable = None  # type: ignore[attr-defined]
    sys.modules |= {"six": ModuleType("six"), "six.moves": six, "terminaltables": tables}
    importlib.import_module("mmdet.models")


def official(checkout: Path) -> dict[str, Any]:
    """Return the backbone of facebookresearch/ConvNeXt's object_detection."""
    custom, builder = ModuleType("mmcv_custom"), ModuleType("mmdet.models.builder")
    custom.load_checkpoint = None  # type: ignore[attr-defined]  # named, not called
    registry = SimpleNamespace(register_module=lambda: lambda cls: cls)
    builder.BACKBONES = registry  # type: ignore[attr-defined]
    sys.modules |= {"mmcv_custom": custom, "mmdet.models.builder": builder}
    importlib.import_module("mmdet.utils").get_root_logger = None  # type: ignore[attr-defined]
    path = checkout / "object_detection/mmdet/models/backbones/convnext.py"
    spec = importlib.util.spec_from_file_location("mmdet.models.backbones.official_convnext", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"type": module.ConvNeXt, "depths": DEPTHS, "dims": DIMS}


def mmpretrain(checkout: Path, **options: Any) -> dict[str, Any]:
    """Return MMPretrain's ConvNeXt, which MMDetection's own configs name."""
    for name in ("mmpretrain", "mmpretrain.models", "mmpretrain.models.utils"):
        if name not in sys.modules:  # their __init__ import what is not needed
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(checkout / name.replace(".", "/"))]
    backbones = "mmpretrain.models.backbones"
    if backbones not in sys.modules:
        sys.modules[backbones] = ModuleType(backbones)
        sys.modules[backbones].__path__ = [str(checkout / backbones.replace(".", "/"))]
    norm = importlib.import_module("mmpretrain.models.utils.norm")
    sys.modules["mmpretrain.models.utils"].__dict__.update(vars(norm))
    net = importlib.import_module(f"{backbones}.convnext").ConvNeXt
    arch = {"depths": DEPTHS, "channels": DIMS}
    more = {"out_indices": [0, 1, 2, 3], "gap_before_final_norm": False}
    return {"type": net, "arch": arch, **more, **options}


def build(mmdet: Path, file: str, backbone: dict[str, Any], nms: str = "nms") -> Any:
    """Return the model of a config of MMDetection, small, with another backbone."""
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    path = mmdet / "mmdet" / ".mim" / "configs" / file
    model = Config.fromfile(path, import_custom_modules=False).model
    model.backbone = backbone
    model.neck.update(in_channels=DIMS, out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    heads = model.roi_head
    for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
        extractor.out_channels = CHANNELS
        extractor.roi_layer.use_torchvision = True
    stages = heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]
    for head in stages:
        head.update(in_channels=CHANNELS, fc_out_channels=16, num_classes=CLASSES)
        if "norm_cfg" in head:
            head.update(conv_out_channels=8, norm_cfg={"type": "BN"})
    heads.mask_head.update(in_channels=CHANNELS, conv_out_channels=8, num_classes=CLASSES)
    model.test_cfg.rcnn.max_per_img = DETECTIONS
    model.test_cfg.rcnn.nms.type = nms
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(model)


def predict(model: Any, image: torch.Tensor) -> tuple[Any, Any, Any, torch.Tensor]:
    """Return maps, proposals, detections and mask probabilities of an RGB image (3, H, W)."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import bbox2roi

    size = tuple(image.shape[1:])
    told = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1, 1)})
    data = {"inputs": [image.flip(0)], "data_samples": [told]}  # BGR
    seen = model.data_preprocessor(data, False)
    maps = model.extract_feat(seen["inputs"])
    proposals = model.rpn_head.predict(maps, seen["data_samples"], rescale=False)
    metas, heads = [s.metainfo for s in seen["data_samples"]], model.roi_head
    (found,) = heads.predict_bbox(maps, metas, proposals, rcnn_test_cfg=heads.test_cfg)
    rois = bbox2roi([found.bboxes])
    if isinstance(heads.mask_head, nn.ModuleList):
        stages = [heads._mask_forward(i, maps, rois) for i in range(len(heads.mask_head))]
    else:
        stages = [heads._mask_forward(maps, rois)]
    masks = torch.stack([stage["mask_preds"].sigmoid() for stage in stages]).mean(0)
    return maps, proposals[0], found, masks[range(len(masks)), found.labels][:, None]


def write(name: str, source: str, model: Any, layout: str) -> None:
    """Draw weights and images, run and write one case."""
    torch.manual_seed(0)
    draw_weights(model)
    nn.Module.train(model, False)
    rng = np.random.default_rng(0)
    images = [draw_image(rng, size) for size in SIZES[0]]
    spread(model, lambda: predict(model, images[0]))
    tensors = {}
    for i, image in enumerate(images):
        with torch.no_grad():
            maps, proposals, found, masks = predict(model, image)
        if i == 0:
            tensors |= {f"map:p{n}:0": value for n, value in enumerate(maps, start=2)}
        tensors |= {f"image:{i}": image, f"proposals:{i}": proposals.bboxes[:50]}
        tensors |= {f"boxes:{i}": found.bboxes, f"scores:{i}": found.scores}
        tensors |= {f"classes:{i}": found.labels, f"masks:{i}": masks}
    pixels = model.data_preprocessor
    spec = {
        "source": f"{source}; {VERSION}",
        "detector": layout,
        "mean": [float(v) for v in pixels.mean.flatten()],
        "std": [float(v) for v in pixels.std.flatten()],
        "color_order": "RGB",
        "classes": ["disc", "square", "post"],
    }
    weights = {n: t for n, t in model.state_dict().items() if not n.startswith("data_prep")}
    save(name, spec, tensors, weights)


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("mmdet", "convnext", "mmpretrain"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    at = parser.parse_args()
    prepare(at.mmdet.resolve())
    torch.set_num_threads(1)
    mask, cascade = (
        "_base_/models/mask-rcnn_r50_fpn.py",
        "convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py",
    )
    theirs = "facebookresearch/ConvNeXt object_detection, commit 048efce"
    also = "open-mmlab/mmpretrain ConvNeXt, commit ee7f2e8"
    net = official(at.convnext)
    write("mmdet_convnext_official", theirs, build(at.mmdet, mask, net), "convnext")
    model = build(at.mmdet, cascade, net)
    write("mmdet_convnext_official_cascade", theirs, model, "convnext")
    net = mmpretrain(at.mmpretrain, layer_scale_init_value=1.0)
    write("mmdet_convnext", also, build(at.mmdet, mask, net), "mmdet_convnext")
    net = mmpretrain(at.mmpretrain, layer_scale_init_value=0.0, use_grn=True)
    model = build(at.mmdet, mask, net, nms="soft_nms")
    write("mmdet_convnextv2", f"{also}, Soft-NMS", model, "mmdet_convnext")


if __name__ == "__main__":
    main()
