"""The authors' detectors: maps, proposals and detections, from a file of their layout."""

import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

from transfer.detection.build import build_detector
from transfer.detection.released import CONFIGS, load_released, released_config
from transfer.weights.detectors import ZOO, read_detector

from .cases import Case, Check, Checks


def write_release(case: Case, path: Path) -> None:
    """Write the case's weights as their authors: arrays in a pickle, or MMCV's checkpoint."""
    if "classes" in case.spec:
        mean, std = ([round(v, 3) for v in case.spec[name]] for name in ("mean", "std"))
        config = f"img_norm_cfg = dict(\n    mean={mean}, std={std}, to_rgb=True)\n"
        meta = {"CLASSES": tuple(case.spec["classes"]), "config": config}
        torch.save({"meta": meta, "state_dict": case.weights}, path)
        return
    arrays = {name: tensor.numpy() for name, tensor in case.weights.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": ZOO}))


def base_config(case: Case) -> Path:
    """Return a config whose test is the case's, but for the sizes."""
    names = {
        "vitdet": "vit_base_100ep",
        "detectron2_resnet": "resnet50_1x",
        "convnext": "convnext_tiny_3x",
        "mmdet_convnext": "convnextv2_base_3x" if "v2" in case.path.name else "convnext_tiny_3x",
    }
    return CONFIGS / f"{names[case.spec['detector']]}.py"


def build(case: Case, path: Path) -> Any:
    """Return the network that this suite makes of the case, written to `path` and read again."""
    write_release(case, path)
    released = read_detector(path)
    options = [
        "data.val_json=none",
        "data.val_images=none",
        f"model.max_detections={case.spec['max_detections']}",
    ]
    config = released_config(released, base_config(case), options)
    detector = build_detector(config, released.classes, released.pixels)
    names = case.spec.get("classes") or [str(i) for i in range(released.classes)]
    load_released(detector.model, released, names)
    return detector.model.eval()


def check_detector(case: Case) -> list[Check]:
    """Check a detector, in float32 as RoI pooling is: maps, best proposals, all detections."""
    with tempfile.TemporaryDirectory() as folder:
        model = build(case, Path(folder) / "released.pkl").to(case.device)
    checks = Checks(case)
    images = sorted(name for name in case.tensors if name.startswith("image:"))
    checks.inputs(*images)
    for name in images:
        number = name.removeprefix("image:")
        batch = [{"image": case.tensors[name].to(case.device)}]
        with torch.no_grad():
            seen = model.preprocess_image(batch)
            maps = model.backbone(seen.tensor)
            (proposals,), _ = model.proposal_generator(seen, maps, None)
            (found,) = model.inference(batch, do_postprocess=False)
        if f"map:p2:{number}" in case.tensors:
            for level, value in maps.items():
                checks.compare(f"map:{level}:{number}", value)
        count = len(case.tensors[f"proposals:{number}"])
        checks.compare(f"proposals:{number}", proposals.proposal_boxes.tensor[:count])
        checks.compare(f"boxes:{number}", found.pred_boxes.tensor)
        checks.compare(f"scores:{number}", found.scores)
        checks.compare(f"classes:{number}", found.pred_classes)
        checks.compare(f"masks:{number}", found.pred_masks)
    return checks.finish()
