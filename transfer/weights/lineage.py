"""How weights were trained: stated by the user, by configs/weights.json, or by the tensors.

Few layouts say so: a ResNet without classifier may be SparK's or anyone's, a ConvNeXt V2 with one
may be trained on labels alone or fine-tuned from FCMAE. What the tensors cannot tell stays unknown.
"""

import re

from pretrain.files.lineage import UNKNOWN, Lineage, Stage, stages_of_method
from pretrain.files.read import WeightsError
from transfer.weights.releases import Release
from transfer.weights.sources.base import Raw

# layout -> names of tensors that only a pretraining of its method leaves behind
PROOF: dict[str, tuple[str, ...]] = {
    "spark": (r"(module\.)?sparse_encoder\.",),
    "fcmae": (r".*\.kernel$", r"(mask_token|pred|decoder)"),
    "beit": (r"rel_pos_bias\.", r"lm_head\."),
    "beitv2": (r"cls_pt_layers\.",),
    "mae": (r"decoder_embed\.",),
    "mocov3": (r"(module\.)?base_encoder\.",),
    "mocov3_resnet": (r"(module\.)?base_encoder\.",),
    "dino": (r"(module\.)?backbone\.",),
    "dino_resnet": (r"(module\.)?backbone\.",),
    "dinov2": (r".*(mask_token|register_tokens)$",),
}


def told_stages(
    raw: Raw, layout: str, method: str, told: Lineage | None, release: Release | None
) -> tuple[Lineage, str]:
    """Return the stages of a file and by whom they are told; ("unknown",) if by nobody."""
    if told:
        return told, "the user"
    if release is not None:
        return release.stages, f"configs/weights.json, {release.name}"
    if any(raw.has(pattern) for pattern in PROOF.get(layout, ())):
        return (Stage(method, labels=False),), "the tensors"
    return (Stage(UNKNOWN),), "nobody"


def require_known(stages: Lineage, file: str) -> None:
    """Raise WeightsError if it is not known how the weights were trained."""
    if any(stage.method == UNKNOWN for stage in stages):
        raise WeightsError(
            f"{file}: its tensors do not tell how it was trained. Say it once: "
            "tools/convert_weights.py FILE --out encoder.safetensors with --method NAME (spark, "
            "supervised, fcmae+supervised, ...) or --stages JSON, and train from what it writes"
        )


def merged(method: str | None, stages: Lineage | None) -> Lineage | None:
    """Return what --method and --stages say together; None if they are not given.

    Raises WeightsError if they contradict one another or the name is not a method's.
    """
    if method is None:
        return stages
    if not re.fullmatch(r"[a-z0-9_.-]+(\+[a-z0-9_.-]+)*", method):
        raise WeightsError(f"--method {method!r}: expected names as spark or fcmae+supervised")
    if stages is None:
        return stages_of_method(method)
    if [stage.method for stage in stages] != method.split("+"):
        raise WeightsError(f"--method {method} contradicts --stages: give one of them")
    return stages
