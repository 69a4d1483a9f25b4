"""Hours come from finished runs of the same settings and device, and from nowhere else."""

from dataclasses import replace

import pytest

from transfer.suites.commands import config_path
from transfer.suites.cost import costs, in_words
from transfer.suites.flops import training_multiply_adds
from transfer.suites.marks import read_mark
from transfer.suites.steps import plan
from transfer.suites.suite import Cell, FineTune, Released, Suite

ACCURACY = "configs/classification/convnext_tiny.py"


def with_hours(folder, hours, **more):
    replace(read_mark(folder), hours=hours, **more).write(folder)


@pytest.fixture
def steps(tmp_path, step, launch):
    made = [step(f"a{seed}", settings={"config": {"lr": 1}, "seed": seed}) for seed in (0, 1)]
    launch(made)
    with_hours(tmp_path / "a0", 2.0)
    with_hours(tmp_path / "a1", 4.0)
    return made


@pytest.mark.usefixtures("steps")
def test_a_step_takes_what_the_same_settings_took(tmp_path, step):
    same = step("b", settings={"config": {"lr": 1}, "seed": 7, "weights": "of another"}, gpus=1)
    other = step("c", settings={"config": {"lr": 2}, "seed": 7})
    found = costs([same, other], [tmp_path], "cpu")
    assert found.keys() == {"b"}
    assert (found["b"].hours, found["b"].runs) == (3.0, 2)
    assert in_words([same, other], found, 2.5) == (
        "3.00 device hours, 7.50 at 2.5 an hour, as such runs took; 1 steps unknown"
    )


def test_another_device_or_number_of_gpus_tells_nothing(tmp_path, steps):
    assert not costs(steps, [tmp_path], "NVIDIA H100 80GB HBM3")
    assert not costs([replace(steps[0], gpus=8)], [tmp_path], "cpu")
    assert "hours unknown" in in_words(steps, {}, 2.5)


def test_unfinished_runs_and_unknown_hours_tell_nothing(tmp_path, steps):
    (tmp_path / "a0" / "result.json").unlink()
    with_hours(tmp_path / "a1", None)
    assert not costs(steps, [tmp_path], "cpu")


def test_what_no_run_tells_is_estimated_at_the_speed_that_is_given(tmp_path):
    cell = Cell("configs/detection/convnext_tiny_3x.py", Released("convnext_tiny_1k_224"), gpus=8)
    (step,) = plan(Suite((cell,)), tmp_path)
    found = costs([step], [], "cpu", tflops=10.0)
    # ConvNeXt's README: 262 G multiply-adds an image; 36 epochs of 7330 steps of 16 images
    operations = 2 * 3 * 262e9 * 36 * 7330 * 16
    assert found[step.name].hours == pytest.approx(operations / (8 * 10e12) / 3600, rel=0.01)
    assert "1 of 1 steps estimated" in in_words([step], found, None)


def test_fine_tuning_is_counted_at_its_input(tmp_path):
    cells = (Cell(ACCURACY, None, gpus=8), Cell(ACCURACY, None, ("steps=1000",), gpus=8))
    stage = FineTune(ACCURACY, None, gpus=8)
    suite = Suite((*cells, Cell("configs/segmentation/convnext_tiny_upernet_512.py", stage)))
    steps = plan(suite, tmp_path)
    found = costs(steps, [], "cpu", tflops=10.0)
    # ConvNeXt's README: 4.5 G multiply-adds an image of 224 px; 300 epochs of ImageNet-1K
    operations = 2 * 3 * 4.5e9 * 300 * 1_281_167
    for step in (steps[0], next(step for step in steps if step.stage)):
        hours = found[step.name].hours
        assert hours == pytest.approx(operations / (8 * 10e12) / 3600, rel=0.02)
    share = 1000 * 4096 / (300 * 1_281_167)  # the config's batch
    assert found[steps[1].name].hours == pytest.approx(share * hours)
    assert (
        training_multiply_adds("classification", config_path(ACCURACY), ("dataset=mine",)) is None
    )


def test_a_probe_is_not_estimated(tmp_path):
    (step,) = plan(Suite((Cell("probe", None, arch="resnet18"),), labelled_data="x"), tmp_path)
    assert not costs([step], [], "cpu", tflops=10.0)


def test_segmentation_is_counted_at_its_crop():
    config = config_path("configs/segmentation/shapes_upernet.py")
    arch = ("arch=resnet18",)
    count = training_multiply_adds("segmentation", config, arch)
    twice = training_multiply_adds("segmentation", config, (*arch, "max_iters=480"))
    assert twice == 2 * count
    larger = training_multiply_adds("segmentation", config, (*arch, "crop_size=(256,256)"))
    assert larger == pytest.approx(4 * count, rel=0.05)  # the pooled maps do not grow
    assert training_multiply_adds("segmentation", config, ()) is None
