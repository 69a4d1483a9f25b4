"""The learning rate against the one that MMCV 0.x printed for the published recipes."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from transfer.segmentation import schedule  # noqa: F401  registers WarmupPolyLR
from transfer.segmentation.config import fill_in, load_config

# Rates that PolyLrUpdaterHook of mmcv 1.7.2 (1d8f928, mmcv/runner/hooks/lr_updater.py) sets before
# an iteration, with the lr_config of the recipe's source
OFFICIAL = {
    "convnext_base_upernet_512": {
        0: 1.0000000000287557e-10,
        1: 6.676618270875113e-08,
        2: 1.3343153208499938e-07,
        749: 4.9699632748958765e-05,
        1499: 9.899708298270875e-05,
        1500: 9.90625e-05,
        1501: 9.9061875e-05,
        80000: 5e-05,
        159999: 6.249999999985435e-10,
    },
    "beit_large_ft_upernet_640": {  # 320k iterations of 8 images
        0: 2.0000000000575115e-11,
        1: 6.686639104186789e-09,
        2999: 1.980595831910419e-05,
        3000: 1.98125e-05,
        160000: 1e-05,
        319999: 6.249999999985434e-11,
    },
    "resnet50_upernet_512": {
        0: 0.01,
        1: 0.009999944312482597,
        1500: 0.00991642945946397,
        80000: 0.005405278639554652,
        159999: 0.00010020508184232249,
    },
}


def scheduler(cfg, optimizer):
    """The one scheduler of a filled-in config."""
    (settings,) = cfg.param_scheduler
    return PARAM_SCHEDULERS.build(settings, default_args={"optimizer": optimizer})


@pytest.mark.parametrize("name", OFFICIAL)
def test_rates_are_mmcvs(name):
    cfg = fill_in(load_config(f"configs/segmentation/{name}.py"))
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": cfg.lr * 0.9**13}]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=cfg.lr))
    rates = scheduler(cfg, wrapper)
    for iteration in range(cfg.forward_passes):
        if iteration in OFFICIAL[name]:
            expected = OFFICIAL[name][iteration]
            own, lower = (group["lr"] for group in wrapper.optimizer.param_groups)
            assert own == pytest.approx(expected, rel=1e-12), iteration
            if name.startswith("convnext"):
                assert lower == pytest.approx(expected * 0.9**13, rel=1e-12), iteration
        wrapper._global_step = iteration  # a step was taken
        rates.step()


def test_all_published_recipes_follow_it():
    from pathlib import Path

    for path in Path("configs/segmentation").glob("*_upernet_*.py"):
        (settings,) = fill_in(load_config(path)).param_scheduler
        assert settings.type == "WarmupPolyLR", path


def test_a_run_without_warm_up(segment, tiny, tmp_path):
    """MMEngine's LinearLR cannot have a length of 0."""
    assert segment([*tiny, "warmup_iters=0", "max_iters=2"], tmp_path).metrics
