"""What would fail only after the last step: refused before the first, with nothing written."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaign.case import ROOT, Case, Place
from tests.campaign.world import DETECTION, FINETUNING, SEGMENTATION

RESIZED_TO_NOTHING = f"""
import detectron2.data.transforms as T
from detectron2.config import LazyCall as L, LazyConfig
config = LazyConfig.load("{ROOT}/configs/detection/shapes_mask_rcnn.py", "config")
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=64, max_size=0)]
"""
TRIED = "tried on 2 validation images, and fails: .*nothing was trained"


def resized_to_nothing(place: Place) -> None:
    """Prepare a config whose test images have no pixels."""
    (place.own / "bad.py").write_text(RESIZED_TO_NOTHING)


def cut(folder: str, images: str) -> Callable[[Place], None]:
    """Prepare a copy of a folder in which all images matching a pattern lack their second half."""

    def prepare(place: Place) -> None:
        for path in place.copy(folder).glob(images):
            cut_in_half(path)

    return prepare


def cut_in_half(path: Path) -> None:
    """Write PNGs and JPEGs without their second half; the header, with the size, stays."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


CASES: dict[str, tuple[str, str, str, Callable[[Place], None] | None]] = {
    "detection-end-resized-to-nothing": (
        "train_net",
        DETECTION.replace("{r}/configs/detection/shapes_mask_rcnn.py", "{o}/bad.py"),
        TRIED,
        resized_to_nothing,
    ),
    "detection-end-not-a-transform": ("train_net", f"{DETECTION} input.test=[5]", TRIED, None),
    "detection-end-images-cut": (
        "train_net",
        DETECTION.replace("{w}/coco", "{o}/coco"),
        r"\.png.*nothing was trained",
        cut("coco", "val/images/*.png"),
    ),
    "segmentation-end-stride-beyond-the-window": (
        "train_seg",
        SEGMENTATION.replace("'scale=(256, 64)'", "'scale=(1024, 256)'")
        + " test_mode=slide 'stride=(1000, 1000)'",
        TRIED,
        None,
    ),
    "segmentation-end-view-of-no-pixels": (
        "train_seg",
        f"{SEGMENTATION} 'tta.ratios=(0.001,)' tta.on=true",
        TRIED,
        None,
    ),
    "finetune-end-crop-of-no-share": ("finetune", f"{FINETUNING} crop_pct=1e-9", TRIED, None),
    "finetune-end-images-cut": (
        "finetune",
        FINETUNING.replace("{w}/classes", "{o}/classes"),
        r"\.jpg cannot be read.*nothing was trained",
        cut("classes", "val/*/*.jpg"),
    ),
}


def cases() -> Iterator[Case]:
    """Yield a case for each."""
    for name, (tool, words, expect, prepare) in CASES.items():
        yield Case(name, tool, words, expect, prepare, may_write=("__pycache__",))
