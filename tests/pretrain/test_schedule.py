"""Learning rate and weight decay against the official functions."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import Optimizer, Recipe, Schedule, SparkSettings, load_recipe
from pretrain.schedule import RunLength, learning_rate, run_length, weight_decay

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "layer_decay_and_schedules.json"
CASE = "spark_schedule_bs4096_1600ep_312it_per_epoch_peak3.2e-3_wd0.04to0.2_warmup40"


def test_spark_equals_the_official_table() -> None:
    recipe = load_recipe("spark_resnet50.py")
    length = run_length(recipe, 312 * 4096)  # the table was made with 312 steps an epoch
    assert length == RunLength(steps=499_200, warmup_steps=12_480, steps_per_epoch=312)
    for step, lr, decay in json.loads(GOLDEN.read_text())[CASE]:
        assert learning_rate(recipe.schedule, recipe.peak_lr(), length, step) == pytest.approx(
            lr, rel=1e-9
        )
        assert weight_decay(recipe.optimizer, length, step) == pytest.approx(decay, rel=1e-9)


def test_mae_curve() -> None:
    """lr * epoch / warm-up, then a cosine over the rest, epoch = step / steps an epoch."""
    schedule, length = Schedule(curve="mae"), RunLength(8000, 400, 10)
    for step in (0, 7, 399, 400, 401, 5000, 7999):
        epoch = step / 10
        share = (epoch - 40) / (800 - 40)
        official = epoch / 40 if epoch < 40 else 0.5 * (1 + math.cos(math.pi * share))
        assert learning_rate(schedule, 2.4e-3, length, step) == pytest.approx(2.4e-3 * official)


def test_beit_curve() -> None:
    """numpy's linspace, then a cosine that stops one step short of its end."""
    schedule, length = Schedule(curve="beit", final=1e-5 / 1.5e-3), RunLength(100, 20, 10)
    rest = np.arange(80)
    cosine = 1e-5 + 0.5 * (1.5e-3 - 1e-5) * (1 + np.cos(math.pi * rest / 80))
    official = np.concatenate((np.linspace(0, 1.5e-3, 20), cosine))
    ours = [learning_rate(schedule, 1.5e-3, length, step) for step in range(100)]
    np.testing.assert_allclose(ours, official, rtol=1e-12)


def test_weight_decay_of_beit_stops_one_step_short_of_its_end() -> None:
    """unilm beit/utils.py: cosine_scheduler(weight_decay, weight_decay_end, epochs, steps)."""
    optimizer = Optimizer(weight_decay=0.05, weight_decay_end=0.2)
    official = 0.2 + 0.5 * (0.05 - 0.2) * (1 + np.cos(math.pi * np.arange(30) / 30))
    ours = [weight_decay(optimizer, RunLength(30, 6, 10), step, "beit") for step in range(30)]
    np.testing.assert_allclose(ours, official, rtol=1e-12)


def test_weight_decay_is_constant_unless_told() -> None:
    assert weight_decay(Optimizer(weight_decay=0.05), RunLength(10, 0, 10), 7) == 0.05


RECIPE = Recipe(arch="resnet18", method=SparkSettings(), batch_size=8, schedule=Schedule(epochs=50))


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="7 images do not fill one step of 8"):
        run_length(RECIPE, 7)


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="warm-up takes 40 steps of a run of 20"):
        run_length(replace(RECIPE, schedule=Schedule(steps=20)), 8)


def test_spark_fills_the_last_step_of_an_epoch() -> None:
    """sampler.py: ceil(1,281,167 / 4096) = 313; main_pretrain.py and BEiT drop what is left."""
    lengths = {
        name: run_length(load_recipe(f"{name}.py"), 1_281_167).steps_per_epoch
        for name in ("spark_resnet50", "fcmae_convnextv2_tiny_800ep", "beit_base_in1k")
    }
    assert lengths == {
        "spark_resnet50": 313,
        "fcmae_convnextv2_tiny_800ep": 312,
        "beit_base_in1k": 625,
    }
    assert run_length(load_recipe("spark_resnet50.py"), 312 * 4096).steps_per_epoch == 312


def test_epochs_and_steps() -> None:
    assert run_length(RECIPE, 35) == RunLength(steps=200, warmup_steps=160, steps_per_epoch=4)
    steps = Schedule(epochs=50, steps=70, warmup_steps=3)
    assert run_length(replace(RECIPE, schedule=steps), 35) == RunLength(70, 3, 4)
