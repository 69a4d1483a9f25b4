"""Label maps on disk -> class indices in memory: the only place that knows ADE20K's offset.

On disk an ADE20K map holds 0 for "other" and k for class k - 1. In memory classes count from 0 and
IGNORED (255) takes part neither in the loss nor in the figures.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from numpy.typing import NDArray
from PIL import Image

from transfer.datasets.ade20k_checks import IGNORED

SINGLE_CHANNEL_MODES = ("1", "L", "P", "I", "I;16")


def to_classes(labels: NDArray[np.uint8], reduce_zero_label: bool) -> NDArray[np.uint8]:
    """Turn labels as stored (H, W) into class indices; with the offset 0 -> 255 and k -> k - 1."""
    if not reduce_zero_label:
        return labels
    shifted = labels - np.uint8(1)  # 0 wraps to 255
    shifted[labels == IGNORED] = IGNORED
    return shifted


def to_labels(classes: NDArray[np.uint8], reduce_zero_label: bool) -> NDArray[np.uint8]:
    """Turn class indices (H, W) into labels as the data set's files store them."""
    return classes + np.uint8(1) if reduce_zero_label else classes


def read_labels(path: Path | str) -> NDArray[np.uint8]:
    """Return the values stored in a label image (H, W); palette images give indices, not colours.

    ValueError for a picture of several channels, labels above 255, or a file that cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in SINGLE_CHANNEL_MODES:
                raise ValueError(
                    f"{path} is a {image.mode} picture: a label file holds one class index a pixel "
                    "(modes L or P)"
                )
            values = np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a label image: {error}") from error
    if values.max(initial=0) > IGNORED or values.min(initial=0) < 0:
        raise ValueError(f"{path} holds the label {values.max()}: labels are 0 to {IGNORED}")
    return values.astype(np.uint8)


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Adds `gt_seg_map` (H, W) uint8, class indices; refuses a second time and unknown classes."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load seg_map_path; reduce_zero_label and num_classes come from the data set.

        ValueError for labels loaded twice or beyond the classes.
        """
        if "gt_seg_map" in results:
            raise ValueError(
                f"{results['seg_map_path']} is loaded twice: its offset would be applied twice"
            )
        path, offset = results["seg_map_path"], results["reduce_zero_label"]
        classes = to_classes(read_labels(path), offset)
        beyond = classes[(classes != IGNORED) & (classes >= results["num_classes"])]
        if beyond.size:
            raise ValueError(
                f"{path} holds the label {int(beyond.max()) + offset}, but there are "
                f"{results['num_classes']} classes"
                + (" (0 is ignored, the first class is 1)" if offset else " (the first is 0)")
            )
        results["gt_seg_map"] = classes
        results["seg_fields"].append("gt_seg_map")
        return results
