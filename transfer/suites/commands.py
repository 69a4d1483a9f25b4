"""A cell or a stage -> the command line of its tool: config, options, words in the tool's form."""

import json
from pathlib import Path

from transfer.suites.settings import pretrain_settings
from transfer.suites.suite import PROBE, ROOT, Cell
from transfer.tasks import TASKS, Task, task_of_config


def config_path(name: str) -> Path:
    """Return a config's path, relative ones from the project's folder.

    Raises FileNotFoundError if it does not exist.
    """
    path = ROOT / name
    if not path.is_file():
        raise FileNotFoundError(f"the suite names {name}, which does not exist")
    return path


def config_of(cell: Cell) -> Path:
    """Return the path of a cell's config; of a probe, which has none, the word for it.

    Raises FileNotFoundError if it does not exist.
    """
    return Path(PROBE) if cell.task == PROBE else config_path(cell.task)


def task_of(cell: Cell) -> Task:
    """Return the task of a cell. Raises ValueError if its config lies in no task's folder."""
    return TASKS[PROBE] if cell.task == PROBE else task_of_config(config_path(cell.task))


def options_of(cell: Cell) -> tuple[str, ...]:
    """Return the options of a cell, its architecture among them where the config does not say."""
    return (*cell.options, *_network(cell))


def _network(cell: Cell) -> tuple[str, ...]:
    """Return the options that give a cell from scratch its architecture."""
    arch, arch_args = cell.arch, cell.arch_args
    if cell.like is not None:
        from pretrain.config import recipe_from_json
        from transfer.weights.identity import transfer_arch_args

        like = cell.like
        recipe = recipe_from_json(pretrain_settings(config_path(like.config), like.options)[0])
        arch, arch_args = recipe.arch, transfer_arch_args(recipe.arch, recipe.arch_args)
    if arch is None:
        return ()
    return (f"arch={arch}", f"arch_args={json.dumps(arch_args)}")


def command_of(
    task: Task, config: Path, folder: Path, words: list[str], labelled: Path | None
) -> tuple[str, ...]:
    """Return the command of a task's tool, in its own form; `words` begin with weights=.

    `labelled` are the images with classes of a fine-tuning or a probe.
    """
    name = task.tool.removesuffix(".py")
    if task.name == "detection":
        return (*tool(name, "--config-file", config, "--resume"), *words, f"output_dir={folder}")
    if task.name == "segmentation":
        return (*tool(name, config, "--work-dir", folder, "--resume"), "--cfg-options", *words)
    places = ("--data", labelled, "--out", folder)
    if task.name == "classification":
        return (*tool(name, config, *places, "--resume"), *words)
    weights, *others = words
    return (*tool(name, weights.removeprefix("weights="), *places), *others)


def tool(name: str, *arguments: object) -> tuple[str, ...]:
    """Return the words of a call of tools/NAME.py."""
    return (str(ROOT / "tools" / f"{name}.py"), *map(str, arguments))
