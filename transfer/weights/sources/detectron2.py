"""Detectron2's ResNets: .pkl of arrays, or the checkpoint of a trained detector.

The names are those that Detectron2's convert-torchvision-to-d2.py and SparK's convert-timm-to-d2.py
write. Caffe2's (MSRA's) nets stride in their 1x1 convolutions and see BGR: no timm net does.
"""

from pretrain.files.read import WeightsError
from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

PREFIX = r"(module\.)?backbone\.(bottom_up\.)?"
NAMES = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.conv1\.", "conv1."),
    (r"^res2\.", "layer1."),
    (r"^res3\.", "layer2."),
    (r"^res4\.", "layer3."),
    (r"^res5\.", "layer4."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
LEFT = (
    (r"(module\.)?(proposal_generator|roi_heads|sem_seg_head|head)\.", "not the backbone"),
    (r"(module\.)?backbone\.(fpn_|top_block\.|net\.fpn)", "the detector's FPN"),
    (r"(module\.)?pixel_(mean|std)$", "pixel statistics of the net"),
    (r"(module\.)?(stem\.fc|linear|fc)\.", CLASSIFIER),
)
CAFFE2 = ("Caffe2", "MSRA", "Detectron2 Model Zoo")
_CAFFE2_NAMES = r"res\d_\d+_branch|conv1_[wb]$|res_conv1_bn"


def to_timm(raw: Raw) -> Renamed:
    """Rename Detectron2's ResNet tensors to timm's.

    Raises WeightsError for Caffe2's ResNet, which timm does not have.
    """
    if raw.has(_CAFFE2_NAMES):
        raise WeightsError(
            f"{raw.file}: Caffe2's ResNet strides in its 1x1 convolutions and has no BatchNorm "
            "statistics, which no timm ResNet does; use a torchvision or timm ResNet"
        )
    return rename(raw.tensors, NAMES, prefix=PREFIX, left=LEFT)


def _recognise(raw: Raw) -> str | None:
    if raw.has(_CAFFE2_NAMES):
        return "Caffe2's names (res2_0_branch2a_w)"
    if not raw.has(r"((module\.)?backbone\.(bottom_up\.)?)?res2\.0\."):
        return None
    author = raw.notes.get("__author__", "nobody")
    if author in CAFFE2:
        raise WeightsError(
            f"{raw.file}: its author is {author!r}, whose ResNets stride in their 1x1 convolutions "
            "and see BGR (STRIDE_IN_1X1 = True), which no timm ResNet does; if this one was "
            "trained with STRIDE_IN_1X1 = False, say so with --source detectron2"
        )
    return f"Detectron2's ResNet names (res2.0), written by {author}"


DETECTRON2 = Source("detectron2", "Detectron2 ResNets", "supervised", _recognise, to_timm)
