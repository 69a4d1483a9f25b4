"""Layer decay against the tables made by the official functions (tests/golden)."""

import json
import re
from pathlib import Path

import pytest

from transfer.features import TimmFeatures
from transfer.features.layer_decay import RULES, layer_decay_factors, rule_for

TABLES = json.loads(
    (Path(__file__).parents[2] / "golden" / "layer_decay_and_schedules.json").read_text()
)
OURS = [  # official name -> ours
    (r"backbone\.bottom_up\.stem\.conv1", "backbone.bottom_up.encoder.conv1"),
    (r"backbone\.bottom_up\.res(\d)", lambda m: f"backbone.bottom_up.encoder.layer{int(m[1]) - 1}"),
    (r"backbone\.downsample_layers\.0\.", "backbone.encoder.stem."),
    (r"backbone\.downsample_layers\.(\d)\.", r"backbone.encoder.stages.\1.downsample."),
    (r"backbone\.stages\.(\d)\.(\d+)\.dwconv", r"backbone.encoder.stages.\1.blocks.\2.conv_dw"),
    (r"backbone\.norm0", "backbone.norms.res2"),
    (r"backbone\.(cls_token|patch_embed|blocks)", r"backbone.encoder.\1"),
    (r"backbone\.fpn1\.0", "backbone.pyramid.res2.0"),
]
RULE = [
    ("spark_", "resnet_official"),
    ("_layer_wise_", "convnext_layer_wise"),
    ("_stage_wise_", "convnext_stage_wise"),
    ("beit_", "vit"),
]


def _ours(name: str) -> str:
    for pattern, replacement in OURS:
        name, changed = re.subn(pattern, replacement, name)
        if changed:
            break
    return name


def _case(table: str) -> tuple[str, float]:
    rule = next(rule for mark, rule in RULE if mark in table)
    return rule, float(re.search(r"decay([\d.]+\d)", table)[1])


@pytest.mark.parametrize("table", [name for name in TABLES if "decay" in name])
def test_equals_the_official_table(table):
    rule, decay = _case(table)
    wanted = {_ours(name): factor for name, factor in TABLES[table].items()}
    factors = layer_decay_factors(wanted, rule=rule, decay=decay)
    assert factors == pytest.approx(wanted, rel=1e-12)
    if layers := re.search(r"layers(\d+)", table):
        given = layer_decay_factors(wanted, rule=rule, decay=decay, num_layers=int(layers[1]))
        assert given == factors


def test_corrected_rule_differs_only_where_the_official_one_overflows():
    for table in (name for name in TABLES if name.startswith("spark_detectron2")):
        names = [_ours(name) for name in TABLES[table]]
        corrected = layer_decay_factors(names, rule="resnet", decay=0.6)
        official = layer_decay_factors(names, rule="resnet_official", decay=0.6)
        if "resnet152" not in table:
            assert corrected == official
        backbone = [factor for name, factor in corrected.items() if "encoder" in name]
        assert max(backbone) == pytest.approx(0.6)
        assert backbone == sorted(backbone)


ENCODERS = [
    ("resnet18", {"channels": (8, 8, 8, 8)}, {}),
    ("resnet50", {"layers": (1, 1, 4, 1)}, {}),
    ("convnext_atto", {"dims": (8, 8, 8, 8)}, {}),
    ("convnextv2_atto", {"dims": (8, 8, 8, 8)}, {}),
    ("vit_tiny_patch16_224", {"depth": 3}, {"pyramid": "simple"}),
    ("deit_tiny_distilled_patch16_224", {"depth": 3}, {"pyramid": "simple"}),
    ("beit_base_patch16_224", {"embed_dim": 48, "num_heads": 3}, {"pyramid": "blocks"}),
]


@pytest.mark.parametrize(("arch", "args", "more"), ENCODERS)
@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.bottom_up.", "module.backbone."])
def test_covers_every_parameter(arch, args, more, prefix):
    features = TimmFeatures(arch, args, **more)
    names = [prefix + name for name, _ in features.named_parameters()] + ["decode_head.conv.weight"]
    factors = layer_decay_factors(names, rule=rule_for(arch), decay=0.5)
    assert list(factors) == names
    for name, factor in factors.items():
        outside = not name.startswith(prefix + "encoder.")
        assert (factor == 1) == outside, name


def test_unknown_names_are_errors():
    for rule in RULES:
        with pytest.raises(ValueError, match="mystery"):
            layer_decay_factors(["encoder.mystery.weight"], rule=rule, decay=0.5)
    with pytest.raises(ValueError, match="nothing would decay"):
        layer_decay_factors(["backbone.layer1.0.conv1.weight"], rule="resnet", decay=0.5)
    with pytest.raises(ValueError, match="no layer decay rule"):
        layer_decay_factors(["encoder.conv1.weight"], rule="resnets", decay=0.5)
    with pytest.raises(ValueError, match="regnety"):
        rule_for("regnety_002")


def test_none_is_one_everywhere():
    assert layer_decay_factors(["a", "encoder.b"], rule="none", decay=0.5) == {
        "a": 1,
        "encoder.b": 1,
    }
