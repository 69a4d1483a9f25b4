"""Hours come from finished runs of the same settings and device, and from nowhere else."""

from dataclasses import replace

import pytest

from transfer.suites.cost import costs, in_words
from transfer.suites.marks import read_mark


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
        "3.00 device hours, 7.50 at 2.5 an hour, as runs with the same settings took; "
        "1 steps unknown"
    )


def test_another_device_or_number_of_gpus_tells_nothing(tmp_path, steps):
    assert not costs(steps, [tmp_path], "NVIDIA H100 80GB HBM3")
    assert not costs([replace(steps[0], gpus=8)], [tmp_path], "cpu")
    assert "hours unknown" in in_words(steps, {}, 2.5)


def test_unfinished_runs_and_unknown_hours_tell_nothing(tmp_path, steps):
    (tmp_path / "a0" / "result.json").unlink()
    with_hours(tmp_path / "a1", None)
    assert not costs(steps, [tmp_path], "cpu")
