"""The table of tasks agrees with the folders and tools that it names."""

from pathlib import Path

import pytest

from transfer.tasks import ROOT, TASKS, task_of_config


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_names_what_is_there(name):
    task = TASKS[name]
    package = ROOT / "transfer" / task.config_folder
    assert (ROOT / "tools" / task.tool).is_file() == package.is_dir()
    assert any(task.configs.glob("*.py")) == package.is_dir()
    assert set(task.columns) <= set(task.metrics)


def test_a_config_says_its_task_by_its_folder():
    for name in ("detection", "segmentation", "classification"):
        config = next(TASKS[name].configs.glob("*.py"))
        assert task_of_config(config).name == name
    with pytest.raises(ValueError, match=r"elsewhere/x\.py.*configs/detection"):
        task_of_config(Path("elsewhere/x.py"))
