"""Parameter groups and learning rates against those of the official functions (tests/golden).

tools/golden/classification_groups.py made the file, at the commits that it names.
"""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from pretrain.config import Schedule
from pretrain.schedule import RunLength, learning_rate
from transfer.classification.config import Optimizer, load_config
from transfer.classification.optimizer import build_optimizer, parameter_groups

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "classification.json").read_text())
CONFIGS = Path(__file__).parents[3] / "configs" / "classification"
CONVNEXT = [  # timm's name -> the official one
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
    (r"\.mlp\.grn\.weight", ".grn.gamma"),
    (r"\.mlp\.grn\.bias", ".grn.beta"),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
]


class Whole(nn.Module):
    """A timm network where the classifier of a run has it."""

    def __init__(self, arch: str, **arguments: object) -> None:
        super().__init__()
        with torch.device("meta"):
            self.encoder = timm.create_model(arch, num_classes=1000, **arguments)


def official_name(name: str, arch: str) -> str:
    name = name.removeprefix("encoder.")
    for pattern, new in CONVNEXT if arch.startswith("convnext") else ():
        name = re.sub(pattern, new, name)
    return name


@pytest.mark.parametrize("name", sorted(GOLDEN["groups"]))
def test_groups_are_the_official_functions(name):
    config = load_config(CONFIGS / f"{name}.py")
    pool = {"global_pool": "avg"} if config.arch.startswith("vit") else {}
    model = Whole(config.arch, **pool)
    groups = parameter_groups(model, config.optimizer, 1.0, config.arch)
    ours = {
        official_name(parameter, config.arch): (group["factor"], group["weight_decay"])
        for group in groups
        for parameter in group["names"]
    }
    theirs = {n: (factor, decay) for n, factor, decay in GOLDEN["groups"][name]}
    assert ours.keys() == theirs.keys()
    for parameter, (factor, decay) in theirs.items():
        assert ours[parameter] == (pytest.approx(factor, rel=1e-12), decay), parameter


@pytest.mark.parametrize("name", sorted(GOLDEN["rates"]))
def test_rates_are_the_official_schedules(name):
    """100 epochs of 10 steps, 20 of them warm-up, peak 1, and each code's own end."""
    curve = {"fcmae": "mae", "convnext": "beit"}.get(name, name)
    spark = {"warmup_start": 0.005, "final": 0.001}
    schedule = Schedule(curve=curve, **(spark if name == "spark" else {"final": 1e-3}))
    length = RunLength(1000, 200, 10)
    ours = [learning_rate(schedule, 1.0, length, step) for step in GOLDEN["at"]]
    assert ours == pytest.approx(GOLDEN["rates"][name], rel=1e-9, abs=1e-12)


CURVES = {
    "spark_resnet50": "spark",
    "mae_base": "mae",
    "beit_base_in1k": "beit",
    "fcmae_convnextv2_atto": "mae",
    "convnext_tiny": "beit",
}


@pytest.mark.parametrize("name", CURVES)
def test_the_schedules_of_the_configs_are_those(name):
    config = load_config(CONFIGS / f"{name}.py")
    assert config.schedule.curve == CURVES[name]
    end = 1e-3 * config.peak_lr() if CURVES[name] == "spark" else 1e-6
    assert config.peak_lr() * config.schedule.final == pytest.approx(end)


def test_lamb_is_as_spark_fine_tunes():
    model = Whole("resnet18")
    settings = Optimizer(optimizer="lamb", eps=1e-6)
    optimizer = build_optimizer(model, settings, 0.1, "resnet18")
    defaults = optimizer.defaults
    assert (defaults["max_grad_norm"], defaults["always_adapt"], defaults["bias_correction"]) == (
        1e7,
        True,
        False,
    )
    assert (defaults["betas"], defaults["eps"], defaults["trust_clip"]) == (
        (0.9, 0.999),
        1e-6,
        False,
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
