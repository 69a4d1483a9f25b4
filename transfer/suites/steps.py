"""A suite -> the runs it still lacks -> records -> a table.

A suite is a literal list of cells; a cell is (what to load, what to train, seeds). From it follow
steps: make the embedded dataset, pretrain each recipe, run each cell, draw the table. Every step
is one of the project's own command lines in a process of its own, so a step can be repeated by
hand. A step is done when the file it ends in is there; a killed suite runs the rest.
"""

import json
import sys
from pathlib import Path
from typing import Any

from transfer.results.record import RECORD_NAME
from transfer.suites.local import ROOT, Step
from transfer.suites.suite import Cell, Suite
from transfer.tasks import task_of_config

ENCODER_NAME = "encoder.safetensors"


def plan(suite: Suite, out: Path) -> list[Step]:
    """Return every step of the suite in an order that can run, finished ones included.

    Raises ValueError if two cells have the same name.
    """
    steps: dict[str, Step] = {}
    env = {}
    if suite.shapes is not None:
        data = out / "data"
        env["DETECTRON2_DATASETS"] = str(data)
        steps["shapes"] = Step(
            "shapes", _tool("make_shapes", "--out", data, *suite.shapes), data / "shapes.json"
        )
    for cell in suite.cells:
        recipe = _recipe(cell.weights)
        if recipe is not None and _pretrain_name(recipe) not in steps:
            step = _pretrain_step(suite, recipe, out, env, tuple(steps)[:1] if suite.shapes else ())
            steps[step.name] = step
    first = ("shapes",) if suite.shapes is not None else ()
    for cell in suite.cells:
        for seed in cell.seeds:
            step = _cell_step(cell, seed, out, env, first)
            if step.name in steps:
                raise ValueError(f"the suite names the cell {step.name} twice")
            steps[step.name] = step
    return list(steps.values())


def _pretrain_step(
    suite: Suite, recipe: Path, out: Path, env: dict[str, str], needs: tuple[str, ...]
) -> Step:
    data = out / "data" / "unlabelled" if suite.shapes is not None else suite.pretrain_data
    if data is None:
        raise ValueError(f"the suite pretrains {recipe} but names no pretrain_data")
    folder = out / _pretrain_name(recipe)
    command = _tool("pretrain", recipe, "--data", data, "--out", folder, "--resume")
    return Step(
        _pretrain_name(recipe),
        (*command, *suite.pretrain_options),
        folder / ENCODER_NAME,
        needs,
        (recipe,),
        env,
    )


def _cell_step(
    cell: Cell, seed: int, out: Path, env: dict[str, str], needs: tuple[str, ...]
) -> Step:
    task = _config(cell.task)
    kind = task_of_config(task)
    recipe = _recipe(cell.weights)
    weights = cell.weights if recipe is None else str(out / _pretrain_name(recipe) / ENCODER_NAME)
    options = [f"weights={weights}", f"seed={seed}", *cell.options]
    arch, arch_args = _architecture(cell)
    if arch is not None:
        options += [f"arch={arch}", f"arch_args={json.dumps(arch_args)}"]
    if recipe is not None:
        needs = (*needs, _pretrain_name(recipe))
    name = f"{kind.name}/{task.stem}/{_label(cell)}/seed{seed}"
    folder = out / name
    if kind.name == "detection":
        head = _tool(kind.tool.removesuffix(".py"), "--config-file", task, "--resume")
        command = (*head, *options, f"output_dir={folder}")
    else:
        head = _tool(kind.tool.removesuffix(".py"), task, "--work-dir", folder, "--resume")
        command = (*head, "--cfg-options", *options)
    return Step(name, command, folder / RECORD_NAME, needs, (task,), env)


def _label(cell: Cell) -> str:
    if cell.weights != "none":
        return Path(cell.weights).stem
    return f"scratch-{Path(cell.like).stem if cell.like else cell.arch}"


def _architecture(cell: Cell) -> tuple[str | None, dict[str, Any]]:
    if cell.like is None:
        if cell.weights == "none" and cell.arch is None:
            raise ValueError(f"a scratch cell of {cell.task} needs `like` or `arch`")
        return cell.arch, cell.arch_args
    from pretrain.config import load_recipe
    from transfer.weights.identity import transfer_arch_args

    recipe = load_recipe(_config(cell.like))
    return recipe.arch, transfer_arch_args(recipe.arch, recipe.arch_args)


def _recipe(weights: str) -> Path | None:
    return _config(weights) if weights.endswith(".py") else None


def _pretrain_name(recipe: Path) -> str:
    return f"pretrain/{recipe.stem}"


def _config(name: str) -> Path:
    path = Path(name) if Path(name).is_absolute() else ROOT / name
    if not path.is_file():
        raise FileNotFoundError(f"the suite names {name}, which does not exist")
    return path


def _tool(name: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments))
