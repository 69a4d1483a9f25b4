"""ResNets: timm's and torchvision's names (they agree), MoCo v3's and DINO's wrappings of them."""

from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

PREFIX = r"(module\.)?(base_encoder|backbone|encoder)\."
LEFT = (
    (r"(module\.)?momentum_encoder\.", "MoCo's momentum encoder"),
    (r"(module\.)?predictor\.", "MoCo's predictor"),
    (r"(module\.)?base_encoder\.fc\.", "MoCo's projection head"),
    (r"(module\.)?head\.", "DINO's head"),
    (r"((module\.)?backbone\.)?fc\.", CLASSIFIER),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename a torchvision-like ResNet's tensors to timm's."""
    return rename(raw.tensors, prefix=PREFIX, left=LEFT)


def _mocov3(raw: Raw) -> str | None:
    if raw.has(r"(module\.)?base_encoder\.layer1\."):
        return "a ResNet under base_encoder: a MoCo v3 pretraining file"
    return None


def _dino(raw: Raw) -> str | None:
    if "teacher" in raw.containers and raw.has(r"(module\.)?backbone\.layer1\."):
        return "a ResNet under teacher.backbone: a full DINO pretraining file"
    return None


def _supervised(raw: Raw) -> str | None:
    if raw.has(r"layer1\.0\.conv1\.") and raw.has(r"fc\."):
        return "timm's and torchvision's ResNet names with a classifier"
    return None


MOCOV3 = Source("mocov3_resnet", "MoCo v3 ResNet-50", "mocov3", _mocov3, to_timm)
DINO = Source("dino_resnet", "DINO ResNet-50", "dino", _dino, to_timm)
SUPERVISED = Source(
    "resnet", "ResNet trained on labels (timm, torchvision)", "supervised", _supervised, to_timm
)
