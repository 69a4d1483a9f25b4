"""A released segmentor, as its authors trained it -> tensors in the names of TransferSegmentor.

The backbone goes through sources/ as that of any file; pyramid, norms of the outputs, UPerNet and
auxiliary head are renamed by a table. A tensor is loaded, recomputed by the net, or an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.files.read import WeightsError, safe_read
from transfer.weights.convert import Weights, read_weights
from transfer.weights.identity import PixelStats
from transfer.weights.sources.base import NameTable, Raw, rename
from transfer.weights.unwrap import unwrap

FEATURES = "backbone.features."
ENCODER = f"{FEATURES}encoder."
NAMES: NameTable = (
    (r"^(backbone\.fpn1|neck\.upsample_4x)\.", f"{FEATURES}pyramid.res2."),
    (r"^(backbone\.fpn2|neck\.upsample_2x)\.0\.", f"{FEATURES}pyramid.res3."),
    *((rf"^backbone\.norm{i}\.", f"{FEATURES}norms.res{i + 2}.") for i in range(4)),
)
RECOMPUTED = re.compile(r".*relative_position_index$")
CLASSIFIER = "decode_head.conv_seg.weight"
AUXILIARY = "auxiliary_head.conv_seg.weight"
# layout -> a tensor that no other one has; the first that fits counts
LAYOUTS = {
    "unilm_beit": r"backbone\.fpn1\.0\.",
    "mmseg_mae": r"backbone\.layers\.0\.attn\.qkv\.bias",
    "mmseg_beit": r"backbone\.layers\.0\.attn\.q_bias",
    "mmseg_convnext": r"backbone\.stages\.0\.0\.depthwise_conv\.",
    "convnext": r"backbone\.stages\.0\.0\.dwconv\.",
    "mmseg_resnet": r"backbone\.layer1\.0\.conv1\.",
}

VITS = ("unilm_beit", "mmseg_beit", "mmseg_mae")
# settings that no tensor shows, and that this suite's UPerNet does not have: (in a config, value)
OTHER_NETS = (
    (r"align_corners=(\w+)", ("False",)),
    (r"pool_scales=\(([\d, ]+)\)", ("1, 2, 3, 6",)),
    (r"\bstrides=\(([\d, ]+)\)", ("1, 2, 2, 2",)),
    (r"\bdilations=\(([\d, ]+)\)", ("1, 1, 1, 1",)),
    (r"final_norm=(\w+)", ("False",)),
)
KNOWN_DEPTHS = (4, 12, 24)  # of ViTs whose four maps are known: all of 4; BEiT's of the others


@dataclass(frozen=True)
class Segmentor:
    """A whole segmentor: its encoder, and every tensor by its name in TransferSegmentor.

    `class_names`, `pixels`, `crop` (pixels along a side) and `blocks` (of a ViT, whose maps are
    used) are what the file says of its training; None where it does not.
    """

    file: str
    layout: str
    encoder: Weights
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    pixels: PixelStats | None
    crop: int | None
    blocks: tuple[int, ...] | None

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.tensors[CLASSIFIER])

    @property
    def head_channels(self) -> int:
        """Return the width of UPerNet."""
        return self.tensors[CLASSIFIER].shape[1]

    @property
    def aux_channels(self) -> int:
        """Return the width of the auxiliary head."""
        return self.tensors[AUXILIARY].shape[1]

    def in_order(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the tensors with the classes in the order of `names`.

        Raises WeightsError if the file has another number of classes, or says other names.
        """
        if self.classes != len(names):
            raise WeightsError(
                f"{self.file}: has {self.classes} classes, the data set has {len(names)} without "
                "its ignored label; give the config of the file's data set with --config"
            )
        if self.class_names is None:
            return self.tensors
        theirs, ours = ([n.strip().casefold() for n in of] for of in (self.class_names, names))
        if sorted(theirs) != sorted(ours):
            odd = sorted(set(theirs) ^ set(ours))
            raise WeightsError(
                f"{self.file}: says other classes than the data set's ({', '.join(odd[:6])}); give "
                "the names that the data set has in a file, --cfg-options classes=FILE"
            )
        order = [theirs.index(name) for name in ours]
        moved = {n: t[order] for n, t in self.tensors.items() if ".conv_seg." in n}
        return {**self.tensors, **moved}


def read_segmentor(path: str | Path) -> Segmentor:
    """Read a segmentor of a layout in LAYOUTS; nothing in the file is executed.

    Raises FileNotFoundError, or WeightsError where the file is broken, holds no segmentor of a
    known layout, or a tensor of it has no place.
    """
    raw = unwrap(safe_read(path), str(path))
    layout = layout_of(raw)
    encoder = read_weights(path)
    rest = {n: t for n, t in raw.tensors.items() if n in encoder.unused and not RECOMPUTED.match(n)}
    try:
        renamed = rename(rest, NAMES)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    named = {f"{ENCODER}{name}": tensor for name, tensor in encoder.tensors.items()}
    meta = raw.notes.get("meta")
    told = meta if isinstance(meta, Mapping) else {}
    config = str(told.get("config") or told.get("cfg") or "")
    _require_same_net(config, str(path))
    return Segmentor(
        file=str(path),
        layout=layout,
        encoder=encoder,
        tensors={**named, **renamed.tensors},
        class_names=class_names_in(told),
        pixels=pixels_in(config),
        crop=_crop(layout, encoder, config, Path(path).name),
        blocks=_blocks(layout, encoder, config),
    )


def layout_of(raw: Raw) -> str:
    """Return the layout of a segmentor. Raises WeightsError if it has none of LAYOUTS."""
    for name, mark in LAYOUTS.items():
        if raw.has(mark) and CLASSIFIER in raw.tensors and AUXILIARY in raw.tensors:
            return name
    heads = "" if CLASSIFIER in raw.tensors else ", without a segmentation head (decode_head)"
    raise WeightsError(
        f"{raw.file}: holds no segmentor of a known layout{heads}; known are UPerNet with an "
        f"auxiliary head: {', '.join(LAYOUTS)}. Its first tensors: "
        f"{', '.join(list(raw.tensors)[:5])}"
    )


def _require_same_net(config: str, file: str) -> None:
    """Raise WeightsError for a net that has the same tensors and computes something else."""
    for pattern, known in OTHER_NETS:
        other = [m for m in re.finditer(pattern, config) if m[1] not in known]
        if other:
            raise WeightsError(
                f"{file}: was trained with {other[0][0]}, which no config here has: its figures "
                "would be another network's"
            )


def _blocks(layout: str, encoder: Weights, config: str) -> tuple[int, ...] | None:
    """Return the blocks whose maps a ViT's segmentor uses; None for the usual ones, or stages."""
    if layout not in VITS:
        return None
    found = re.search(r"out_indices=[\[(]([\d, ]+)[\])]", config)
    if found is not None:
        return tuple(int(i) for i in found[1].split(",") if i.strip())
    depth = len({n.split(".")[1] for n in encoder.tensors if n.startswith("blocks.")})
    if depth not in KNOWN_DEPTHS:
        raise WeightsError(
            f"{encoder.file}: a ViT of {depth} blocks, and the file does not say which four of "
            "them its pyramid reads (out_indices in its config)"
        )
    return None


def class_names_in(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes: MMSegmentation 0.x says CLASSES, 1.x dataset_meta."""
    dataset = meta.get("dataset_meta")
    names = meta.get("CLASSES") or (
        dataset.get("classes") if isinstance(dataset, Mapping) else None
    )
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def pixels_in(config: str) -> PixelStats | None:
    """Return the pixel statistics in the text of a config, which count from 0 to 255."""
    found = re.search(r"mean=\[([^\]]*)\],\s*std=\[([^\]]*)\],\s*(?:to|bgr_to)_rgb=(\w+)", config)
    if found is None:
        return None
    mean, std = ([float(v) / 255 for v in found[i].split(",") if v.strip()] for i in (1, 2))
    order = "RGB" if found[3] == "True" else "BGR"
    return PixelStats((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), order)


def _crop(layout: str, encoder: Weights, config: str, name: str) -> int | None:
    """Return the side of the crops: of the position tables, the config, or the file's name."""
    if layout in VITS:
        return encoder.identity.input_size
    found = re.search(r"crop_size\s*=\s*\((\d+),\s*\1\)", config) or re.search(r"(\d+)x\1", name)
    return int(found[1]) if found else None
