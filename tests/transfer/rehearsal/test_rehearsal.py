"""Some configs of each family go the whole way; a broken one is told and keeps no other back."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
pytest.importorskip("mmseg")

from transfer.rehearsal import reduce
from transfer.rehearsal.pool import names_of, rehearse_all
from transfer.rehearsal.reduce import Request, family_of
from transfer.rehearsal.run import rehearse

ROOT = Path(__file__).resolve().parents[3]
HANDFUL = [
    "pretrain/beit_base_in1k",  # a tokenizer without decoder
    "classification/mae_base",  # a position embedding at another size, a norm that the file lacks
    "classification/beit_base_in22k",  # no validation split: it ends in its encoder file
    "detection/beit_base_100ep",
    "detection/resnet50_lvis_1x",
    "segmentation/resnet50_upernet_512",  # no warm-up, one group of parameters
]


@pytest.mark.parametrize("name", HANDFUL)
def test_the_whole_way(name, tmp_path):
    outcome = rehearse(ROOT / f"configs/{name}.py", name, tmp_path / "way", Request())
    assert not outcome.failure, Path(outcome.traceback).read_text()
    assert outcome.step_seconds > 0
    assert not (tmp_path / "way").exists()


def test_a_failure_is_told_and_the_others_go_on(tmp_path):
    broken, good = (
        tmp_path / "detection" / "broken.py",
        ROOT / "configs/pretrain/shapes_spark_resnet.py",
    )
    broken.parent.mkdir()
    broken.write_text("config = 1 / 0\n")
    outcomes = list(rehearse_all([broken, good], tmp_path / "out", Request(), jobs=1))
    failed, passed = sorted(outcomes, key=lambda outcome: not outcome.failure)
    assert failed.config == "broken"
    assert failed.stage == "preparation"
    assert "ZeroDivisionError" in failed.failure
    assert "ZeroDivisionError" in Path(failed.traceback).read_text()
    assert not passed.failure


def test_configs_of_one_name_have_outcomes_and_folders_of_their_own(tmp_path):
    """As the pretraining and the fine-tuning of beit_base_in1k."""
    texts = {"detection": "config = 1 / 0\n", "segmentation": "lr = 1.0\n"}
    for folder, text in texts.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(text)
    configs = [tmp_path / folder / "same.py" for folder in texts]
    assert list(names_of(configs).values()) == ["detection/same", "segmentation/same"]
    found = {o.config: o for o in rehearse_all(configs, tmp_path / "out", Request(), jobs=2)}
    for name, error in (
        ("detection/same", "ZeroDivision"),
        ("segmentation/same", "KeyError"),
    ):
        assert error in found[name].failure
        assert error in Path(found[name].traceback).read_text()


def test_the_tools_exit_status_tells(tmp_path):
    broken = tmp_path / "detection" / "broken.py"
    broken.parent.mkdir()
    broken.write_text("config = 1 / 0\n")
    command = [sys.executable, "tools/rehearse.py", str(broken), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "0 of 1 configs passed" in done.stdout
    command[2] = str(tmp_path / "none.py")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2


def test_the_family_follows_from_folder_or_content(tmp_path):
    assert family_of(ROOT / "configs/segmentation/custom.py") == "segmentation"
    own = tmp_path / "mine.py"
    for text, family in (
        ("from pretrain.config import Recipe\nrecipe = Recipe()\n", "pretraining"),
        ("finetuning = FineTuning()\n", "classification"),
        ("from .base.mask_rcnn import config\nconfig.seed = 1\n", "detection"),
        ('_base_ = ["custom.py"]\nlr = 1.0\n', "segmentation"),
    ):
        own.write_text(text)
        assert family_of(own) == family
    own.write_text("x = 1\n")
    with pytest.raises(ValueError, match="in none of the folders"):
        family_of(own)


def test_full_size_changes_neither_net_nor_images(tmp_path):
    from pretrain.config import load_recipe

    recipe = load_recipe("spark_resnet50.py")
    plan = reduce.pretraining(recipe, tmp_path / "tokenizer", Request(full_size=True))
    assert {*plan.options} == {
        "steps",
        "warmup_steps",
        "checkpoint_steps",
        "log_steps",
        "batch_size",
    }
    assert plan.options["batch_size"] == recipe.batch_size == 4096
    assert plan.full_steps == round(1600 * 1_281_167 / 4096)
    assert reduce.hours(plan, 3.6) == pytest.approx(plan.full_steps / 1000)
    assert math.isnan(reduce.hours(plan, math.nan))
    small = reduce.pretraining(recipe, tmp_path / "tokenizer", Request())
    assert json.loads(small.flags()[small.flags().index("--arch-args") + 1])["layers"] == [1] * 4
