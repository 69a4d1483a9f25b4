"""Parameter name -> learning-rate factor: the one rule that both frameworks' optimizers use.

    resnet                 keyu-tian/SparK downstream_d2/lr_decay.py, all layers counted
    resnet_official        the same with its count of layers: 5, or 11 for every deeper net, so that
                           late blocks of ResNet-152 and -200 learn up to 2.8 times faster than the
                           heads (decay 0.6)
    convnext_layer_wise    facebookresearch/ConvNeXt object_detection/mmcv_custom
    convnext_stage_wise    facebookresearch/ConvNeXt semantic_segmentation/mmcv_custom
    convnext_block_wise    facebookresearch/ConvNeXt-V2 optim_factory.py, "single": a layer a block,
                           the stem in the first block's
    resnet_classification  keyu-tian/SparK downstream_imagenet/models: ResNet-50, -101, -152, -200
    vit                    microsoft/unilm beit/semantic_segmentation/mmcv_custom
    none                   1 everywhere

Every rule numbers the layers from the image on; a parameter of layer i of L gets decay^(L + 1 - i),
everything outside the encoder 1, and so does the classifier of a whole timm network.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

Layer = Callable[[str, int], int]  # encoder's parameter name, number of the last layer -> layer
_RESNET = re.compile(r"layer(\d)\.(\d+)\.")
_RESNET_STEM = re.compile(r"(conv1|bn1)\.")
_CONVNEXT = re.compile(r"stages\.(\d)\.(?:(downsample)|blocks\.(\d+))\.")
_CONVNEXT_STEM = re.compile(r"stem\.")
_VIT_BLOCK = re.compile(r"blocks\.(\d+)\.")
_VIT_STEM = re.compile(
    r"(cls_token|dist_token|reg_token|pos_embed|mask_token)$|patch_embed\.|norm_pre\."
)
_VIT_END = re.compile(r"(norm|fc_norm)\.|rel_pos_bias\.")
_CONVNEXT_END = re.compile(r"(head\.norm|norm_pre)\.")
_CLASSIFIER = re.compile(r"(head|head\.fc|fc)\.(weight|bias)$")
# SparK's ResNet-50, -101, -152, -200 by their layers: blocks of the second stage and of the third
# that make a layer, and the second stage's last layer
_RESNET_GROUPS = {6: (2, 3, 3), 12: (2, 3, 3), 13: (4, 4, 3), 17: (4, 4, 7)}


def layer_decay_factors(
    names: Iterable[str], *, rule: str, decay: float, num_layers: int | None = None
) -> dict[str, float]:
    """Return the learning-rate factor for each of `names`, in their order.

    names        of the whole model; the encoder's contain `encoder.` after any prefix
    rule         see the module; rule_for(arch) gives the family's
    num_layers   layers of the encoder; None: count them from the names
    Raises ValueError for an unknown rule, an encoder name that the rule does not know, or names
    without an encoder.
    """
    names = list(names)
    if rule != "none" and rule not in RULES:
        raise ValueError(f"no layer decay rule {rule!r}: there are {', '.join(RULES)}, none")
    if not 0 < decay <= 1:
        raise ValueError(f"layer decay must be in (0, 1], got {decay}")
    if rule == "none":
        return dict.fromkeys(names, 1.0)
    inner = {name: _encoder_name(name) for name in names}
    own = [name for name in inner.values() if name is not None]
    if not own:
        raise ValueError(
            f"layer decay {rule!r}: none of {len(names)} parameter names contains 'encoder.', "
            "so nothing would decay; give the names of a model with TimmFeatures in it"
        )
    layer_of, count = RULES[rule]
    if rule == "convnext_block_wise":
        layer_of = partial(_convnext_block, first=_first_blocks(own))
    layers = num_layers if num_layers is not None else count(own)
    return {
        name: 1.0
        if short is None or _CLASSIFIER.match(short)
        else decay ** (layers + 1 - layer_of(short, layers))
        for name, short in inner.items()
    }


def rule_for(arch: str) -> str:
    """Return the layer-decay rule of an architecture's family.

    Raises ValueError for a family for which the papers have no rule.
    """
    families = {
        "resnet": r"(wide_)?resnet|resnext",
        "convnext_layer_wise": r"convnext",
        "vit": r"vit_|beit|deit",
    }
    for rule, pattern in families.items():
        if re.match(pattern, arch):
            return rule
    raise ValueError(f"no layer decay rule is known for {arch}: set the rule to 'none'")


def _encoder_name(name: str) -> str | None:
    """Return what follows the first path component `encoder`; None outside an encoder."""
    match = re.match(r"(?:.*?\.)?encoder\.(.+)", name)
    return match.group(1) if match else None


def _unknown(rule: str, name: str) -> ValueError:
    return ValueError(
        f"layer decay {rule!r} does not know the encoder parameter {name!r}: choose the rule of "
        "its architecture (transfer.features.layer_decay.rule_for) or 'none'"
    )


def _resnet_layer(name: str, layers: int) -> int:
    if _RESNET_STEM.match(name):
        return 0
    if match := _RESNET.match(name):
        stage, block = int(match.group(1)), int(match.group(2))
        return {1: 1, 2: 2, 3: 3 + block // 3, 4: layers}[stage]
    raise _unknown("resnet", name)


def _convnext_stage_wise_layer(name: str, layers: int) -> int:
    if _CONVNEXT_STEM.match(name):
        return 0
    if match := _CONVNEXT.match(name):
        return 0 if match.group(2) else int(match.group(1)) + 1
    if _CONVNEXT_END.match(name):
        return layers + 1
    raise _unknown("convnext_stage_wise", name)


def _convnext_layer(name: str, layers: int) -> int:
    if _CONVNEXT_STEM.match(name):
        return 0
    if match := _CONVNEXT.match(name):
        stage, downsample = int(match.group(1)), bool(match.group(2))
        if downsample:
            return {1: 2, 2: 3, 3: layers}[stage]
        return {0: 1, 1: 2, 2: 3 + int(match.group(3)) // 3, 3: layers}[stage]
    if _CONVNEXT_END.match(name):
        return layers + 1
    raise _unknown("convnext_layer_wise", name)


def _convnext_block(name: str, layers: int, first: Sequence[int] = ()) -> int:
    """`first` is the number of the first block of each stage."""
    if _CONVNEXT_STEM.match(name):
        return 1
    if match := _CONVNEXT.match(name):
        return first[int(match.group(1))] + int(match.group(3) or 0)
    if _CONVNEXT_END.match(name):
        return layers + 1
    raise _unknown("convnext_block_wise", name)


def _first_blocks(names: list[str]) -> list[int]:
    depths = [_blocks(names, _CONVNEXT, str(stage), 3) for stage in range(4)]
    return [1 + sum(depths[:stage]) for stage in range(4)]


def _resnet_classification_layer(name: str, layers: int) -> int:
    if _RESNET_STEM.match(name):
        return 0
    if match := _RESNET.match(name):
        if layers not in _RESNET_GROUPS:
            raise ValueError(
                "layer decay 'resnet_classification' is for ResNet-50, -101, -152 and -200 alone: "
                "choose 'resnet'"
            )
        stage, block = int(match.group(1)), int(match.group(2))
        second, third, last = _RESNET_GROUPS[layers]
        return {1: 1, 2: 2 + block // second, 3: last + 1 + block // third, 4: layers}[stage]
    raise _unknown("resnet_classification", name)


def _vit_layer(name: str, layers: int) -> int:
    if _VIT_STEM.match(name):
        return 0
    if match := _VIT_BLOCK.match(name):
        return int(match.group(1)) + 1
    if _VIT_END.match(name):
        return layers + 1
    raise _unknown("vit", name)


def _blocks(names: list[str], pattern: re.Pattern[str], stage: str, group: int) -> int:
    """Count the blocks of a stage: the highest index in `group` of the pattern, plus one."""
    matches = (pattern.match(name) for name in names)
    found = [m.group(group) for m in matches if m and m.group(1) == stage and m.group(group)]
    return max(map(int, found), default=-1) + 1


def _resnet_layers(names: list[str]) -> int:
    """Count layers, three blocks of the third stage as one: 5 for ResNet-50, 11 for ResNet-101."""
    return 3 + -(-_blocks(names, _RESNET, "3", 2) // 3)


def _resnet_layers_official(names: list[str]) -> int:
    return 5 if _blocks(names, _RESNET, "3", 2) <= 6 else 11


def _resnet_classification_layers(names: list[str]) -> int:
    """Count layers; 0 for a depth that SparK's code does not have."""
    depths = _blocks(names, _RESNET, "2", 2), _blocks(names, _RESNET, "3", 2)
    return {(4, 6): 6, (4, 23): 12, (8, 36): 13, (24, 36): 17}.get(depths, 0)


def _convnext_blocks(names: list[str]) -> int:
    return sum(_blocks(names, _CONVNEXT, str(stage), 3) for stage in range(4))


def _convnext_layers(names: list[str]) -> int:
    """Count layers: 6 for ConvNeXt-T, 12 for S and larger."""
    return 3 + -(-_blocks(names, _CONVNEXT, "2", 3) // 3)


def _vit_layers(names: list[str]) -> int:
    blocks = (_VIT_BLOCK.match(name) for name in names)
    return max((int(match.group(1)) for match in blocks if match), default=-1) + 1


RULES: dict[str, tuple[Layer, Callable[[list[str]], int]]] = {
    "resnet": (_resnet_layer, _resnet_layers),
    "resnet_official": (_resnet_layer, _resnet_layers_official),
    "convnext_layer_wise": (_convnext_layer, _convnext_layers),
    "convnext_stage_wise": (_convnext_stage_wise_layer, _convnext_layers),
    "convnext_block_wise": (_convnext_block, _convnext_blocks),
    "resnet_classification": (_resnet_classification_layer, _resnet_classification_layers),
    "vit": (_vit_layer, _vit_layers),
}
