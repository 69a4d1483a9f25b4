"""Recipes: typed, explained, and told off for typing errors."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pretrain.config import load_recipe, recipe_from_json
from pretrain.config.explain import lr_rule
from pretrain.config.origins import origins
from pretrain.config.read import CONFIG_FOLDER
from pretrain.config.recipe import FREE, flat_settings
from pretrain.run.folder import differences

SHIPPED = sorted(path.name for path in CONFIG_FOLDER.glob("*.py"))
PUBLISHED = [name for name in SHIPPED if not name.startswith("shapes_")]


@pytest.mark.parametrize("name", SHIPPED)
def test_json_holds_the_whole_recipe(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_every_setting_has_a_source(name: str) -> None:
    recipe = load_recipe(name)
    found = origins(name, recipe, recipe)
    assert found.keys() == flat_settings(recipe).keys()
    silent = [k for k, v in found.items() if v.setter != "default" and not v.source]
    allowed = {"checkpoint_steps", "workers", "arch"} if name.startswith("shapes_") else set()
    assert set(silent) <= allowed
    assert all(v.source for v in found.values() if v.setter == "default")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_leave_nothing_of_the_method_to_defaults(name: str) -> None:
    recipe = load_recipe(name)
    found = origins(name, recipe, recipe)
    named = "mask_ratio masked_patches arch batch_size base_lr betas weight_decay clip_norm epochs"
    for setting in (*named.split(), "warmup_epochs", "crop_scale"):
        if setting in found:
            assert found[setting].setter != "default", setting


PEAKS = {
    "spark_resnet50.py": 3.2e-3,
    "spark_convnext_large_384.py": 3.2e-3,
    "fcmae_convnextv2_huge_1600ep.py": 2.4e-3,
    "beit_large_in1k.py": 1.5e-3,
}


@pytest.mark.parametrize(("name", "peak"), PEAKS.items())
def test_published_peaks(name: str, peak: float) -> None:
    assert load_recipe(name).peak_lr() == pytest.approx(peak)


def test_the_rate_follows_the_batch_unless_absolute() -> None:
    fcmae = replace(load_recipe("fcmae_convnextv2_tiny_800ep.py"), batch_size=512)
    assert fcmae.peak_lr() == pytest.approx(3e-4)
    assert lr_rule(fcmae) == "0.00015 x 512 / 256"
    assert replace(load_recipe("beit_base_in1k.py"), batch_size=512).peak_lr() == 1.5e-3


def test_variants_differ_from_their_base_where_they_say() -> None:
    base = load_recipe("spark_convnext_large.py").to_json()
    other = load_recipe("spark_convnext_large_384.py").to_json()
    changed = {line.partition(":")[0] for line in differences(base, other)}
    assert changed == {"image_size", "method.mask_ratio", "batch_size", "optimizer.base_lr"}


def test_origins_name_file_default_and_override() -> None:
    recipe = load_recipe("spark_resnet101.py")
    found = origins("spark_resnet101.py", recipe, replace(recipe, seed=7))
    assert found["drop_path_rate"].setter == "spark_resnet101.py"
    assert found["base_lr"].setter == "spark_resnet50.py"
    assert "utils/arg_util.py" in found["base_lr"].source
    assert found["mask_ratio"].source.startswith("paper 4.1")
    assert found["color_jitter"].setter == "default"
    assert found["seed"].setter == "command line"


def test_how_a_run_is_carried_out_is_no_difference() -> None:
    recipe = load_recipe("spark_resnet50.py")
    other = replace(recipe, run=replace(recipe.run, workers=7))
    assert differences(recipe.to_json(), other.to_json(), FREE) == []
    assert differences(recipe.to_json(), replace(recipe, seed=1).to_json()) == ["seed: 0 -> 1"]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.py"
    path.write_text(f"from pretrain.config.recipe import *\n{text}\n")
    return path


def test_a_misspelt_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "recipe = Recipe(arch='x', method=SparkSettings(mask_ration=0.5))")
    with pytest.raises(ValueError, match="did you mean 'mask_ratio'"):
        load_recipe(path)


def test_a_value_out_of_range_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "recipe = Recipe(arch='x', method=SparkSettings(mask_ratio=1.5))")
    with pytest.raises(ValueError, match=r"mask_ratio=1.5 is not between 0 and 1"):
        load_recipe(path)


BAD_VALUES = {
    "Optimizer(clip_norm=-1.0)": "clip_norm=-1.0 must be above 0",
    "Optimizer(weight_decay=-0.1)": "weight_decay=-0.1 must be at least 0",
    "Optimizer(base_lr=float('nan'))": "base_lr=nan must be above 0",
    "Optimizer(betas=(0.9, 1.0))": r"betas=\(0.9, 1.0\) are not in \[0, 1\)",
    "Schedule(final=float('nan'))": "final=nan must be at least 0",
    "Schedule(warmup_steps=-1)": "warmup_steps=-1 must be at least 0",
    "Schedule(steps=0)": "steps=0 must be above 0",
    "Augmentation(crop_ratio=(-1.0, 2.0))": "crop_ratio=",
    "Augmentation(pixel_mean=(124.0, 117.0, 104.0))": "divide values of 0 to 255 by 255",
    "Augmentation(pixel_std=(0.0, 0.5, 0.5))": "pixel_std=",
    "SparkSettings(decoder_width=0)": "decoder_width=0 must be at least 1",
    "RunSettings(keep_states=0)": "keep_states=0 must be at least 1",
    "RunSettings(workers=-1)": "workers=-1 must be at least 0",
    "TokenizerSettings(tokenizer_ema_decay=2.0)": "tokenizer_ema_decay=2.0 must be below 1",
    "TokenizerSettings(tokenizer_lr=float('nan'))": "tokenizer_lr=nan must be above 0",
    "TokenizerSettings(tokenizer_encoder_wait=2.0)": "tokenizer_encoder_wait=2.0 is not in",
    "TokenizerSettings(tokenizer_clip_norm=0.0)": "tokenizer_clip_norm=0.0 must be above 0",
    "Recipe(arch='x', method=SparkSettings(), drop_path_rate=1.0)": "drop_path_rate=1.0",
}


@pytest.mark.parametrize("text", BAD_VALUES)
def test_a_value_that_cannot_be_meant_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=BAD_VALUES[text]):
        load_recipe(written(tmp_path, f"recipe = {text}"))


RENAMED_IN_A_FILE = {
    "Optimizer(no_decay=('x',))": "'no_decay': it is now never_decay",
    "Optimizer(decay=('x',))": "'decay': it is now always_decay",
    "TokenizerSettings(tokenizer_ema=0.9)": "'tokenizer_ema': it is now tokenizer_ema_decay",
    "RunSettings(precision='bf16')": "'precision': it is now a setting of the recipe itself",
}


@pytest.mark.parametrize("text", RENAMED_IN_A_FILE)
def test_a_former_name_in_a_recipe_is_told_with_the_new_one(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=RENAMED_IN_A_FILE[text]):
        load_recipe(written(tmp_path, f"recipe = {text}"))


def test_a_former_class_is_told_with_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "recipe.py"
    path.write_text("from pretrain.config import Recipe, Run\n")
    with pytest.raises(ValueError, match=r"recipe\.py: .* no Run: it is now RunSettings"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("place", "key", "message"),
    [
        ("optimizer", "no_decay", "Optimizer has no setting 'no_decay': it is now never_decay"),
        ("run", "precision", "RunSettings has no setting 'precision': it is now a setting of the"),
        ("method", "mask_ration", "SparkSettings has no setting 'mask_ration'; did you mean"),
    ],
)
def test_a_saved_recipe_of_former_names_is_told_the_new_ones(
    place: str, key: str, message: str
) -> None:
    values = load_recipe("spark_resnet50.py").to_json()
    values[place] = {**values[place], key: "x"}
    with pytest.raises(ValueError, match=message):
        recipe_from_json(values)


@pytest.mark.parametrize("values", [{}, {"method": {"name": "mae"}}, {"method": None}])
def test_what_is_not_a_saved_recipe_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"method=.* is not one of spark, fcmae, beit"):
        recipe_from_json(values)


def test_published_precisions() -> None:
    """SparK and FCMAE pretrain without autocast, BEiT in float16 with a scaled loss."""
    found = {name: load_recipe(name).precision for name in PUBLISHED}
    assert {n for n, p in found.items() if p == "fp16"} == {n for n in found if "beit" in n}
    assert {p for n, p in found.items() if "beit" not in n} == {"fp32"}
    for name in PUBLISHED:
        recipe = load_recipe(name)
        assert origins(name, recipe, recipe)["precision"].setter != "default", name


def test_a_file_without_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not define `recipe = Recipe"):
        load_recipe(written(tmp_path, "recepie = 3"))


def test_a_missing_file_is_told_with_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="spark_resnet50"):
        load_recipe("configs/pretrain/spark_resnet5.py")
    assert load_recipe("spark_resnet50") == load_recipe("configs/pretrain/spark_resnet50.py")


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(AttributeError):
        load_recipe("spark_resnet50.py").seed = 3  # type: ignore[misc]


def test_recipes_load_without_torch() -> None:
    """The suite and a finished run's --resume read recipes only: they should not wait for torch."""
    code = "import sys; from pretrain.config import load_recipe; load_recipe('beit_base_in1k.py')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed={seed} must be at least 0"):
        replace(load_recipe("spark_resnet50.py"), seed=seed)
