"""Every shipped config builds its network; overrides, names and errors of configs."""

from pathlib import Path

import pytest
import torch

from pretrain.schedule import schedule_length
from transfer.classification.classifier import Classifier
from transfer.classification.config import (
    CONFIG_FOLDER,
    ConfigError,
    flat_settings,
    load_config,
)
from transfer.classification.optimizer import parameter_groups
from transfer.classification.trainer import criterion, mixing

SHIPPED = sorted(path.name for path in CONFIG_FOLDER.glob("*.py"))
IMAGENET = 1_281_167


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_builds(name):
    config = load_config(name)
    arch = config.arch or "convnextv2_atto"
    with torch.device("meta"):
        model = Classifier(arch, {}, 10, config)
    groups = parameter_groups(model, config.optimizer, config.peak_lr(), arch)
    assert sum(len(group["names"]) for group in groups) == len(list(model.parameters()))
    assert max(group["factor"] for group in groups) == 1
    length = schedule_length(config.schedule, config.batch_size, IMAGENET)
    assert 0 <= length.warmup_steps < length.steps
    assert (mixing(config.targets, 10) is not None) == config.targets.mixes
    assert criterion(config.targets) is not None
    if config.dataset == "imagenet_1k":
        assert config.arch


def test_every_setting_has_a_name_of_its_own():
    config = load_config("mae_base.py")
    names = list(flat_settings(config))
    assert len(names) == len(set(names)) > 40


def test_overrides_keep_the_types():
    words = [
        "base_lr=1e-3",
        "epochs=0.5",
        "workers=4",
        "crop_scale=0.2,1.0",
        "clip_norm=None",
        'arch_args={"depths": [1, 1, 1, 1]}',
        "arch_args.dims=[8, 8, 8, 8]",
        "ema_decay=0.5",
    ]
    config = load_config("mae_base.py", words)
    assert config.optimizer.base_lr == 1e-3
    assert (config.schedule.epochs, config.run.workers) == (0.5, 4)
    assert config.images.crop_scale == (0.2, 1.0)
    assert config.arch_args == {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}
    assert config.ema_decay == 0.5


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("base_lrr=1", "no setting 'base_lrr'; did you mean 'base_lr'"),
        ("epochs", "not of the form key=value"),
        ("epochs=many", "a number expected"),
        ("flip=2", r"flip=2.* is not in \[0, 1\]"),
        ("optimizer=sgd", "optimizer must be one of adamw, lamb"),
        ("precision=fp8", "precision must be one of auto, fp32, bf16, fp16"),
        ("ema_decay=1", "must be below 1"),
        ("batch_size=None", "batch_size=None: Input should be a valid integer"),
        ("evaluate=None", "evaluate=None: Input should be a valid boolean"),
        ("betas=0.9,1.5", r"betas=\(0.9, 1.5\) are not in"),
        ("crop_scale=0.5,2.0", "crop_scale=.* is not within"),
        ("crop_scale=0.5", "several values expected"),
        ("base_lr=nan", "a number expected"),
        ("seed=1.5", "a whole number expected"),
        ("arch_args=[1]", "keys and values expected"),
    ],
)
def test_an_override_that_does_not_fit_says_why(word, told):
    with pytest.raises(ConfigError, match=told):
        load_config("mae_base.py", [word])


def test_a_missing_config_names_the_nearest(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"did you mean .*'mae_large'"):
        load_config("mae_larg.py")
    (tmp_path / "x.py").write_text("recipe = 1")
    with pytest.raises(ConfigError, match="does not define `finetuning"):
        load_config(tmp_path / "x.py")
