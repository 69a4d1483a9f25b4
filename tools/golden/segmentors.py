"""The authors' segmentors: maps, both heads and the sliding window, from a file of their layout."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from transfer.segmentation.config import CONFIGS
from transfer.segmentation.released import build_released, released_config
from transfer.weights.segmentors import read_segmentor

from .cases import Case, Check, Checks


def write_release(case: Case, path: Path) -> None:
    """Write the case's weights as MMCV's runners do, beside what they say of the training."""
    spec = case.spec
    mean, std, crop = (list(spec["mean"]), list(spec["std"]), spec["crop"])
    config = (
        f"img_norm_cfg = dict(\n    mean={mean}, std={std}, to_rgb=True)\n"
        f"crop_size = ({crop}, {crop})\n"
    )
    meta = {"CLASSES": tuple(spec["classes"]), "config": config, "iter": 160000}
    torch.save({"meta": meta, "state_dict": case.weights}, path)


def options(case: Case) -> list[str]:
    """Return the options that make configs/segmentation/custom.py the case's test."""
    spec = case.spec
    crop, stride = (f"({spec[name]}, {spec[name]})" for name in ("crop", "stride"))
    window = [f"crop_size={crop}", f"stride={stride}", f"test_mode={spec['mode']}"]
    return ["data_root=.", f"classes={','.join(spec['classes'])}", *window]


def build(case: Case, path: Path) -> Any:
    """Return the network that this suite makes of the case, written to `path` and read again."""
    write_release(case, path)
    released = read_segmentor(path)
    cfg = released_config(released, CONFIGS / "custom.py", options(case))
    return build_released(released, cfg)


def check_segmentor(case: Case) -> list[Check]:
    """Check a segmentor: the maps of the first crop, both heads on them, the whole test."""
    with tempfile.TemporaryDirectory() as folder:
        model = build(case, Path(folder) / "released.pth")
    model = model.to(case.device)
    checks, images = Checks(case), case.tensors["images"]
    checks.inputs("images")
    data = {"inputs": [image.to(case.device) for image in images]}
    pixels = model.data_preprocessor(data, False)["inputs"].to(case.dtype)
    model = model.to(case.dtype)
    shape = tuple(images.shape[2:])
    crop = case.spec["crop"]
    with torch.no_grad():
        maps = model.extract_feat(pixels[..., :crop, :crop])
        for i, found in enumerate(maps):
            checks.compare(f"map:{i}", found)
        checks.compare("decode_head", model.decode_head(maps))
        checks.compare("auxiliary_head", model.auxiliary_head(maps))
        told = [{"ori_shape": shape, "img_shape": shape} for _ in images]
        checks.compare("logits", model.inference(pixels, told))
    return checks.finish()
