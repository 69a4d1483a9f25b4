"""A released detector, as its authors trained it -> tensors in the names of our Mask R-CNN.

The backbone goes through sources/ as that of any file; pyramid and heads are renamed by a table.
`options` are the settings of a detection config that build the file's network.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from transfer.weights import releases
from transfer.weights.convert import Weights, read_weights
from transfer.weights.detector_names import BOXES, ENCODER, MASKS, NAMES, OPENMMLAB, RPN
from transfer.weights.identity import IMAGENET, PixelStats
from transfer.weights.releases import CONFIGS, FOLDER, ReleasedSegmentor
from transfer.weights.segmentors import class_names_in, pixels_in
from transfer.weights.sources.base import Raw, rename
from transfer.weights.unwrap import unwrap

MANIFEST = CONFIGS / "released_detectors.json"
ZOO = "Detectron2 Model Zoo"  # the author of its files
MSRA = PixelStats((103.53 / 255, 116.28 / 255, 123.675 / 255), (1 / 255, 1 / 255, 1 / 255), "BGR")
# layout -> a tensor that no other one has
LAYOUTS = {
    "detectron2_resnet": r"backbone\.bottom_up\.res2\.0\.",
    "vitdet": r"backbone\.net\.blocks\.0\.",
    "mmdet_convnext": r"backbone\.stages\.0\.0\.depthwise_conv\.",
    "convnext": r"backbone\.stages\.0\.0\.dwconv\.",
}
SOURCES = {"detectron2_resnet": "detectron2", "vitdet": "vitdet"}  # of the encoder
HEADS = r"(roi_heads|roi_head)\."
ANCHORS = re.compile(r"proposal_generator\.anchor_generator\.cell_anchors\.(\d)$")
PIXELS = re.compile(r"pixel_(mean|std)$")


@dataclass(frozen=True)
class Detector:
    """A whole detector: its encoder, and every tensor by its name in our Mask R-CNN.

    `options` are a config's settings by their dotted names; `anchors` of each level the file's own,
    which the net computes; `pixels_from` says who tells the pixel statistics. `class_names` is None
    where the file does not say them, `soft_nms` where it does not say which NMS it was tested with.
    """

    file: str
    layout: str
    encoder: Weights
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    anchors: dict[int, Tensor]
    pixels: PixelStats
    pixels_from: str
    class_names: tuple[str, ...] | None = None
    soft_nms: bool | None = None

    @property
    def classes(self) -> int:
        """Return the number of classes, without the background."""
        stage = "0." if self.options["model.cascade"] else ""
        return len(self.tensors[f"roi_heads.box_predictor.{stage}cls_score.weight"]) - 1

    def in_order(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the tensors with the classes in the order of `names`.

        Raises WeightsError if the file has another number of classes, or says other names.
        """
        if self.classes != len(names):
            raise WeightsError(
                f"{self.file}: has {self.classes} classes, the data set has {len(names)}; give the "
                "annotations that it was trained for"
            )
        if self.class_names is None:
            return self.tensors
        theirs, ours = ([n.strip().casefold() for n in of] for of in (self.class_names, names))
        if sorted(theirs) != sorted(ours):
            odd = ", ".join(sorted(set(theirs) ^ set(ours))[:6])
            raise WeightsError(f"{self.file}: says other classes than the data set's ({odd})")
        order = [theirs.index(name) for name in ours]
        return {n: _reordered(n, t, order) for n, t in self.tensors.items()}


@cache
def detectors(path: Path = MANIFEST) -> dict[str, ReleasedSegmentor]:
    """Return the manifest of whole detectors by name."""
    listed = (ReleasedSegmentor(**entry) for entry in json.loads(path.read_text())["detectors"])
    return {release.name: release for release in listed}


def find_detector(
    name_or_path: str, folder: Path = FOLDER
) -> tuple[Path, ReleasedSegmentor | None] | None:
    """Find the file of a released detector as `releases.find` does; None for anything else."""
    known, path = detectors(), Path(name_or_path)
    named = name_or_path in known or any(r.file == path.name for r in known.values())
    if not named and not (path.is_file() and is_detector(path)):
        return None
    return releases._find(name_or_path, known, MANIFEST, folder)


def is_detector(path: str | Path) -> bool:
    """Return whether a file holds the heads of a detector; raises as `safe_read` does."""
    return unwrap(safe_read(path), str(path)).has(HEADS)


def read_detector(path: str | Path) -> Detector:
    """Read a detector of a layout in LAYOUTS; nothing in the file is executed.

    Raises FileNotFoundError, or WeightsError where the file is broken, holds no detector of a known
    layout, or is a network that has the same tensors as another one.
    """
    raw = unwrap(safe_read(path), str(path))
    layout = layout_of(raw)
    arch_args = _heads_of_attention(raw) if layout == "vitdet" else None
    encoder = read_weights(path, SOURCES.get(layout, "openmmlab"), arch_args=arch_args)
    computed = (ANCHORS, PIXELS)
    rest = {
        n: t
        for n, t in raw.tensors.items()
        if n in encoder.unused and not any(pattern.match(n) for pattern in computed)
    }
    renamed = rename(rest, NAMES.get(layout, ())).tensors
    config, names = _told(raw)
    if layout == "vitdet":
        options, pixels = _vitdet(raw, encoder), IMAGENET
    elif layout in OPENMMLAB:
        options, pixels = {"model.arithmetic": "mmdetection"}, IMAGENET
    else:
        options, pixels = _zoo(raw, encoder, renamed), MSRA
    told = pixels_in(config) or _told_pixels(raw, pixels.color_order)
    return Detector(
        file=str(path),
        layout=layout,
        encoder=encoder,
        tensors={**{f"{ENCODER}{n}": t for n, t in encoder.tensors.items()}, **renamed},
        options={**_heads(renamed), **options},
        anchors={int(m[1]): t for n, t in raw.tensors.items() if (m := ANCHORS.match(n))},
        pixels=told or pixels,
        pixels_from="the file" if told else "assumed: those of its authors' config",
        class_names=names,
        soft_nms="soft_nms" in config if "nms" in config else None,
    )


def layout_of(raw: Raw) -> str:
    """Return the layout of a detector. Raises WeightsError if it has none of LAYOUTS."""
    for name, mark in LAYOUTS.items():
        if raw.has(mark) and raw.has(HEADS) and raw.has(r"(proposal_generator\.)?rpn_head\."):
            return name
    heads = "" if raw.has(HEADS) else ", without heads (roi_heads)"
    raise WeightsError(
        f"{raw.file}: holds no detector of a known layout{heads}; known are Mask R-CNN and Cascade "
        f"Mask R-CNN: {', '.join(LAYOUTS)}. Its first tensors: {', '.join(list(raw.tensors)[:5])}"
    )


def _heads(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of RPN and heads that their tensors show."""
    cascade = f"{BOXES}0.fc1.weight" in tensors
    boxes = f"{BOXES}0." if cascade else BOXES
    convs = _widths(tensors, rf"{re.escape(RPN)}conv\.conv\d\.weight$")
    first = f"{RPN}conv.conv0.weight" if convs else f"{RPN}conv.weight"
    if first not in tensors:
        raise WeightsError(f"the detector has no {first}, the first layer of its RPN")
    return {
        "model.cascade": cascade,
        "model.masks": any(n.endswith("predictor.weight") for n in tensors if MASKS in n),
        "model.channels": tensors[first].shape[1],
        "model.rpn_convs": len(convs) or 1,
        "model.box_convs": _widths(tensors, rf"{re.escape(boxes)}conv\d\.weight$"),
        "model.box_fcs": _widths(tensors, rf"{re.escape(boxes)}fc\d\.weight$"),
        "model.mask_convs": _widths(tensors, rf"{re.escape(MASKS)}(0\.)?mask_fcn\d\.weight$"),
        "model.fpn_norm": "",
        "model.box_norm": _norm(tensors, f"{boxes}conv1.norm."),
        "model.mask_norm": _norm(tensors, f"{MASKS}mask_fcn1.norm."),
        "model.stage_loss_weights": None,
    }


def _widths(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    return [len(tensors[name]) for name in sorted(tensors) if re.match(pattern, name)]


def _norm(tensors: Mapping[str, Tensor], name: str) -> str:
    if f"{name}running_mean" in tensors:
        return "BN"
    return "LN" if f"{name}weight" in tensors else ""


def _reordered(name: str, tensor: Tensor, order: list[int]) -> Tensor:
    """Return a tensor of the last layers with the classes in another order."""
    if name.startswith(MASKS) and ".predictor." in name:
        return tensor[order]
    if ".cls_score." in name:
        return tensor[[*order, len(order)]]  # the background is last
    if ".bbox_pred." in name and len(tensor) == 4 * len(order):
        return tensor.unflatten(0, (-1, 4))[order].flatten(0, 1)
    return tensor


def _told(raw: Raw) -> tuple[str, tuple[str, ...] | None]:
    """Return the text of MMDetection's config, empty without one, and the names of the classes."""
    meta = raw.notes.get("meta")
    told = meta if isinstance(meta, Mapping) else {}
    return str(told.get("config") or told.get("cfg") or ""), class_names_in(told)


def _zoo(raw: Raw, encoder: Weights, heads: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings that no tensor of the model zoo's ResNets shows.

    Raises WeightsError for files whose tensors another of its networks has as well.
    """
    author = raw.notes.get("__author__")
    norms = [n for n in heads if ".norm." in n]
    groups = encoder.tensors["layer1.0.conv2.weight"].shape[1] != len(
        encoder.tensors["layer1.0.conv2.weight"]
    )
    odd = {
        f"its author is {author!r}": author != ZOO,
        f"it has norms in its FPN or heads ({', '.join(norms[:1])})": bool(norms),
        "its convolutions have groups": groups,
    }
    for why, wrong in odd.items():
        if wrong:
            raise WeightsError(
                f"{raw.file}: {why}. Where such a ResNet strides, and in which colour order it "
                f"sees, no tensor tells; known are the Mask R-CNNs of {ZOO!r} with ResNets of MSRA "
                "and FPN without norms"
            )
    return {"features.stride_in_1x1": True, "backbone_norm": "FrozenBN"}


def _vitdet(raw: Raw, encoder: Weights) -> dict[str, Any]:
    """Return windows and stored sizes of a ViTDet: those of its relative position tables."""
    sides = {
        int(name.split(".")[3]): (len(t) + 1) // 2
        for name, t in raw.tensors.items()
        if name.endswith(".attn.rel_pos_h")
    }
    depth = 1 + max(int(n.split(".")[1]) for n in encoder.tensors if n.startswith("blocks."))
    sizes = sorted(set(sides.values()))
    if len(sides) != depth or len(sizes) != 2:
        raise WeightsError(
            f"{raw.file}: a ViTDet has relative positions in each block, of windows and of the "
            f"whole map; this one in {len(sides)} of {depth} blocks, for {sizes} patches a side"
        )
    window, grid = sizes
    image_px = grid * encoder.tensors["patch_embed.proj.weight"].shape[-1]
    return {
        "features.pyramid": "simple",
        "features.window_size": window,
        "features.global_blocks": sorted(i for i, side in sides.items() if side == grid),
        "features.decomposed_position": image_px,
        "model.square_pad": image_px,
    }


def _heads_of_attention(raw: Raw) -> dict[str, Any] | None:
    """Return the number of heads where it is not that of a published ViT's width."""
    stem = "backbone.net.blocks.0.attn."
    table, qkv = raw.tensors.get(f"{stem}rel_pos_h"), raw.tensors.get(f"{stem}qkv.weight")
    if table is None or qkv is None or table.shape[1] == 64:
        return None
    return {"num_heads": qkv.shape[1] // table.shape[1]}


def _told_pixels(raw: Raw, color_order: str) -> PixelStats | None:
    """Return the pixel statistics that are stored in the file, which count from 0 to 255."""
    stored = [raw.tensors.get(f"pixel_{name}") for name in ("mean", "std")]
    if stored[0] is None or stored[1] is None:
        return None
    mean, std = ([float(v) / 255 for v in t.flatten()] for t in stored if t is not None)
    return PixelStats((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), color_order)
