"""LAMB against the official steps; what is decayed, by each method's published rule."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pretrain.config import Optimizer, Recipe, load_recipe
from pretrain.methods import build_method
from pretrain.schedule import build_optimizer, clip_outside, is_decayed, parameter_groups, set_step

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lamb_steps"


def test_lamb_equals_the_official_steps() -> None:
    case = json.loads((GOLDEN / "case.json").read_text())
    tensors = load_file(GOLDEN / "case.safetensors")
    names = [name for group in case["groups"] for name in group["params"]]
    parameters = {name: nn.Parameter(tensors[f"start:{name}"].clone()) for name in names}
    settings = Optimizer(
        optimizer="lamb",
        betas=tuple(case["betas"]),
        eps=case["eps"],
        clip_norm=case["max_grad_norm"],
        weight_decay=case["groups"][0]["weight_decay"],
    )
    optimizer = build_optimizer(parameters.items(), settings, case["lr"])
    change = case["change_before_step_3"]
    for step in range(case["steps"]):
        if step == 3:
            set_step(optimizer, change["lr"], change["weight_decay_of_first_group"])
        for name, parameter in parameters.items():
            parameter.grad = tensors[f"gradient:{name}:{step}"].clone()
        optimizer.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(
                parameter.data, tensors[f"after:{name}:{step}"], rtol=1e-5, atol=1e-7
            )


def decayed(recipe: Recipe, settings: Optimizer) -> set[str]:
    named = build_method(recipe).named_parameters()
    return {name for name, parameter in named if is_decayed(name, parameter, settings)}


def test_spark_decays_kernels_only(spark_recipe: Recipe) -> None:
    found = decayed(spark_recipe, load_recipe("spark_resnet50.py").optimizer)
    assert "encoder.conv1.weight" in found
    assert "densify_projs.1.weight" in found
    assert not any("mask_token" in n or "bn1" in n or n.endswith("bias") for n in found)


def test_fcmae_decays_mask_token_and_grn(fcmae_recipe: Recipe) -> None:
    found = decayed(fcmae_recipe, load_recipe("fcmae_convnextv2_tiny_800ep.py").optimizer)
    assert "mask_token" in found
    assert "encoder.stages.0.blocks.0.mlp.grn.bias" in found
    assert "decoder.0.mlp.grn.weight" in found
    assert "encoder.stages.0.blocks.0.norm.weight" not in found
    assert "encoder.stem.0.bias" not in found


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("encoder.rel_pos_bias.relative_position_bias_table", (732, 12), True),
        ("mask_token", (1, 1, 768), True),
        ("encoder.cls_token", (1, 1, 768), False),
        ("encoder.pos_embed", (1, 197, 768), False),
        ("encoder.blocks.0.gamma_1", (768,), False),
        ("encoder.blocks.0.attn.qkv.weight", (2304, 768), True),
    ],
)
def test_beit_decays_table_and_mask_token(
    name: str, shape: tuple[int, ...], expected: bool
) -> None:
    settings = load_recipe("beit_base_in1k.py").optimizer
    assert is_decayed(name, torch.empty(shape), settings) is expected


def test_groups_hold_every_parameter_once() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    model[1].weight.requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), Optimizer())
    sizes = [(len(group["params"]), group["decayed"]) for group in groups]
    assert sizes == [(1, True), (2, False)]


def test_weight_decay_of_a_step_reaches_the_decayed_group_only() -> None:
    optimizer = build_optimizer(nn.Linear(2, 3).named_parameters(), Optimizer(), lr=1.0)
    set_step(optimizer, 0.5, 0.2)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.2), (0.5, 0)]


def test_lamb_clips_by_itself() -> None:
    assert clip_outside(Optimizer(optimizer="lamb", clip_norm=5.0)) is None
    assert clip_outside(Optimizer(clip_norm=3.0)) == 3.0
