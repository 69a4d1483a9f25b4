"""Learning rates by layer and by step."""

from pathlib import Path

import pytest
import torch
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from torch import nn

from pretrain.run.batch_norm import CPUSyncBatchNorm
from transfer.detection.config import load_config
from transfer.detection.optimizer import lr_factor, parameter_groups, set_lr
from transfer.features import TimmFeatures

ARCH, ARGS = "convnextv2_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
CONFIGS = Path(__file__).parents[3] / "configs/detection"
OPTIONS = {"arch": ARCH, "lr": 0.1, "weight_decay": 0.05, "layer_decay": 0.5}


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({"features": TimmFeatures(ARCH, ARGS), "head": nn.Linear(4, 4)})


def by_name(groups: list[dict]) -> dict[str, dict]:
    return {name: group for group in groups for name in group["names"]}


def test_early_layers_learn_slower_and_heads_at_full_rate(model: nn.Module) -> None:
    groups = by_name(parameter_groups(model, **OPTIONS))
    assert set(groups) == {n for n, _ in model.named_parameters()}
    assert groups["head.weight"]["lr"] == 0.1
    stem = groups["features.encoder.stem.0.weight"]["lr"]
    last = groups["features.encoder.stages.3.blocks.0.conv_dw.weight"]["lr"]
    assert stem < last < 0.1
    assert groups["features.norms.res2.weight"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("kind", "norm", "bias"), [("nothing", 0.05, 0.05), ("norms", 0, 0.05), ("vectors", 0, 0)]
)
def test_weight_decay_spares_what_it_should(
    model: nn.Module, kind: str, norm: float, bias: float
) -> None:
    groups = by_name(parameter_groups(model, **OPTIONS, no_weight_decay=kind))
    assert groups["features.norms.res2.weight"]["weight_decay"] == norm
    assert groups["head.bias"]["weight_decay"] == bias
    assert groups["head.weight"]["weight_decay"] == 0.05


def test_vitdet_spares_the_position_embedding_and_every_kind_of_norm() -> None:
    vit = TimmFeatures("vit_base_patch16_224", {"embed_dim": 16, "depth": 4, "num_heads": 2})
    net = nn.ModuleDict({"features": vit, "sync": CPUSyncBatchNorm(4)})
    options = {**OPTIONS, "arch": "vit_base_patch16_224"}
    embedding = "features.encoder.pos_embed"
    for kind, decay in (("norms", 0.05), ("norms_and_pos_embed", 0), ("vectors", 0)):
        groups = by_name(parameter_groups(net, **options, no_weight_decay=kind))
        assert groups[embedding]["weight_decay"] == decay
        assert groups["sync.weight"]["weight_decay"] == 0
        assert groups["features.encoder.patch_embed.proj.weight"]["weight_decay"] == 0.05
    assert load_config(CONFIGS / "vit_base_100ep.py").no_weight_decay == "norms_and_pos_embed"


def test_a_frozen_encoder_has_no_groups(model: nn.Module) -> None:
    model["features"].encoder.requires_grad_(False)
    names = set(by_name(parameter_groups(model, **OPTIONS)))
    assert names == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any("encoder" in name for name in names)


def test_the_schedule_is_detectron2s() -> None:
    settings = {"steps": 100, "milestones": [60, 80], "gamma": 0.1, "warmup_steps": 10}
    theirs = WarmupParamScheduler(
        MultiStepParamScheduler([1, 0.1, 0.01], milestones=[60, 80], num_updates=100),
        warmup_factor=0.001,
        warmup_length=10 / 100,
    )
    for step in range(100):
        ours = lr_factor(step, warmup_factor=0.001, **settings)
        assert ours == pytest.approx(theirs(step / 100), rel=1e-6), step
    with pytest.raises(ValueError, match="outside the schedule"):
        lr_factor(100, warmup_factor=0.001, **settings)


def test_the_factor_scales_every_group(model: nn.Module) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model, **OPTIONS))
    set_lr(optimizer, 0.5)
    assert all(g["lr"] == g["base_lr"] / 2 for g in optimizer.param_groups)
