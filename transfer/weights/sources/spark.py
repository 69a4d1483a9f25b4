"""SparK (keyu-tian/SparK): full pretraining files; encoder files in timm's or official names."""

from transfer.weights.sources import convnext
from transfer.weights.sources.base import CLASSIFIER, Raw, Renamed, Source, rename

ENCODER = r"(module\.)?sparse_encoder\.sp_cnn\."
LEFT = (
    (r"(module\.)?dense_decoder\.", "SparK's decoder"),
    (r"(module\.)?densify_(norms|projs)\.", "SparK's densify layers"),
    (r"(module\.)?mask_tokens\.", "SparK's mask tokens"),
    (r"(module\.)?(imn_m|imn_s|norm_black)$", "SparK's pixel statistics for pictures"),
    (ENCODER + r"fc\.|fc\.", CLASSIFIER),
)


def to_timm(raw: Raw) -> Renamed:
    """Rename SparK's tensors to timm's: ConvNeXt's are official, ResNet's only lose a prefix."""
    encoder = rename(raw.tensors, prefix=ENCODER, left=LEFT)
    if not convnext.is_convnext(Raw(raw.file, encoder.tensors)):
        return encoder
    inner = convnext.to_timm(Raw(raw.file, encoder.tensors))
    origin = {new: encoder.origin[name] for new, name in inner.origin.items()}
    unused = {encoder.origin[name]: why for name, why in inner.unused.items()}
    return Renamed(inner.tensors, origin, {**encoder.unused, **unused})


def _recognise(raw: Raw) -> str | None:
    if raw.has(ENCODER):
        return "keys under sparse_encoder.sp_cnn: a full SparK pretraining file"
    if raw.has(r"downsample_layers\.0\.0\.") and not raw.has(r"(head|norm)\.|.*\.grn\."):
        return "official ConvNeXt names without final norm and classifier: SparK's encoder file"
    if raw.has(r"layer1\.0\.conv1\.") and raw.has(r"conv1\.weight") and not raw.has(r"fc\."):
        return (
            "ResNet names without a classifier: SparK's encoder file (DINO's ResNet-50 has the "
            "same names: --source dino_resnet)"
        )
    return None


SPARK = Source(
    "spark", "SparK: full, or encoder in timm or official style", "spark", _recognise, to_timm
)
