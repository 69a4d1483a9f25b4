"""A suite -> its steps in an order that can run.

From the cells follow steps: make the embedded dataset, pretrain each recipe, run each cell. Every
step is one of the project's own command lines in a process of its own, so a step can be repeated by
hand, and ends in a file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pretrain.run.folder import ENCODER, RECORD, is_whole
from transfer.suites.inputs import (
    MISSING,
    content_digest,
    files_digest,
    images_digest,
    labelled_digest,
    looked_at,
    tokenizer_digest,
    weights_file,
)
from transfer.suites.names import cell_name, stage_name
from transfer.suites.settings import DATA_ROOT, finetune_settings, pretrain_settings, task_settings
from transfer.suites.suite import (
    ROOT,
    Cell,
    Control,
    FineTune,
    Pretrain,
    Released,
    Stage,
    Suite,
    Weights,
)
from transfer.tasks import Task, task_of_config

SHAPES = "shapes"


@dataclass(frozen=True)
class Step:
    """A command, the file it ends in, the steps it waits for, and what it is made of.

    `command` are the words after the interpreter; `product` may end in a pattern. `settings` hold
    all that may change the product, and no path; `problems` say what keeps the step from running.
    """

    name: str
    command: tuple[str, ...]
    product: Path
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    problems: tuple[str, ...] = ()
    cell: Cell | None = None  # of which the step is one seed
    stage: Stage | None = None  # that the step makes

    @property
    def folder(self) -> Path:
        """Return the folder that the step fills."""
        return self.product.parent

    @property
    def products(self) -> list[Path]:
        """Return the files that the step has ended in, complete ones alone."""
        return [path for path in sorted(self.folder.glob(self.product.name)) if is_whole(path)]


def plan(suite: Suite, out: Path, gpus: int | None = None) -> list[Step]:
    """Return every step of the suite in an order that can run, finished ones included.

    `gpus` replaces what the suite says of each run. Raises ValueError if two steps have the same
    name, FileNotFoundError if a config is missing.
    """
    return Planner(suite, out, gpus).steps()


class Planner:
    """Collects the steps of one suite."""

    def __init__(self, suite: Suite, out: Path, gpus: int | None) -> None:
        self.suite, self.out, self.gpus = suite, out, gpus
        self.found: dict[str, Step] = {}
        self.stages: dict[str, Stage] = {}
        self.data = out / "data" if suite.shapes is not None else None
        self.env = {DATA_ROOT: str(self.data)} if self.data else {}
        self.first = (SHAPES,) if self.data else ()

    def steps(self) -> list[Step]:
        """Return the steps, each after those that it needs."""
        if self.data is not None:
            self._add(self._shapes(self.data, self.suite.shapes or ()))
        for cell in self.suite.cells:
            for seed in cell.seeds:
                step = self._cell(cell, seed)
                self._add(step)
                if cell.also_test:
                    self._add(self._second_test(step, cell))
        order = TopologicalSorter({name: step.needs for name, step in self.found.items()})
        return [self.found[name] for name in order.static_order()]

    def _add(self, step: Step) -> None:
        if step.name in self.found:
            raise ValueError(f"the suite names {step.name} twice: give one of the two a name=")
        self.found[step.name] = step

    def _shapes(self, data: Path, words: tuple[str, ...]) -> Step:
        command = _tool("make_shapes", "--out", data, *words)
        settings = {"arguments": _without_workers(words)}
        return Step(SHAPES, command, data / "shapes.json", settings=settings, gpus=0)

    def _stage(self, stage: Stage) -> Step:
        """Return the step that makes an encoder file, added where it is met first."""
        name = stage_name(stage)
        if self.stages.setdefault(name, stage) != stage:
            raise ValueError(f"two stages of the suite are called {name}: give one a name=")
        if name not in self.found:
            if isinstance(stage, Pretrain):
                self._add(self._pretraining(name, stage))
            else:
                self._add(self._finetuning(name, stage))
        return self.found[name]

    def _pretraining(self, name: str, pretrain: Pretrain) -> Step:
        config, folder = find_config(pretrain.config), self.out / name
        seed = () if pretrain.seed is None else ("--seed", str(pretrain.seed))
        words = (*pretrain.options, *seed)
        looks: dict[str, Callable[[], Any]] = {
            "config": lambda: pretrain_settings(config, words)[0],
            "tokenizer": lambda: tokenizer_digest(pretrain_settings(config, words)[1]),
        }
        given = pretrain.data or self.suite.pretrain_data
        data = Path(given).absolute() if given else None
        if data is None and self.data is not None:
            data = self.data / "unlabelled"
        elif data is not None:
            looks["data"] = partial(images_digest, data)
        settings, problems = looked_at(looks)
        if data is None:
            settings["data"] = MISSING
            problems.append(f"{name} has no images: set pretrain_data of the suite, or data= of it")
        arguments = (config, "--data", data, "--out", folder, "--resume", *words)
        return Step(
            name,
            _tool("pretrain", *arguments),
            folder / ENCODER,
            self.first if given is None else (),
            settings,
            gpus=self.gpus or pretrain.gpus,
            problems=tuple(problems),
            stage=pretrain,
        )

    def _finetuning(self, name: str, stage: FineTune) -> Step:
        config, folder = find_config(stage.config), self.out / name
        weights, known, needs, missing = self._weights(stage.of)
        looks: dict[str, Callable[[], Any]] = {
            "config": partial(finetune_settings, config, stage.options)
        }
        given = stage.data or self.suite.labelled_data
        data = Path(given).absolute() if given else self.data
        if given is not None:
            looks["data"] = partial(labelled_digest, data)
        settings, problems = looked_at(looks)
        if data is None:
            problems.append(f"{name} has no images: set labelled_data of the suite, or data= of it")
        settings |= {"weights": known, "seed": stage.seed}
        words = (f"weights={weights}", f"seed={stage.seed}", *stage.options)
        evaluated = settings["config"] == MISSING or settings["config"]["evaluate"]
        return Step(
            name,
            _tool("finetune", config, "--data", data, "--out", folder, "--resume", *words),
            folder / (RECORD if evaluated else ENCODER),
            (*(() if given else self.first), *needs),
            settings,
            gpus=self.gpus or stage.gpus,
            problems=(*problems, *missing),
            stage=stage,
        )

    def _cell(self, cell: Cell, seed: int) -> Step:
        config = find_config(cell.task)
        kind = task_of_config(config)
        name = cell_name(kind.name, cell, seed)
        folder = self.out / name
        options = options_of(cell)
        settings, problems = self._task(kind, config, options, name.rpartition("/")[0])
        weights, known, needs, missing = self._weights(cell.weights)
        if (
            cell.weights is None
            and settings["config"] != MISSING
            and not settings["config"]["arch"]
        ):
            problems.append(f"{name} has neither weights nor a network: give like= or arch=")
        settings |= {"weights": known, "seed": seed}
        words = [f"weights={weights}", f"seed={seed}", *options]
        return Step(
            name,
            command_of(kind, config, folder, words),
            folder / RECORD,
            (*self.first, *needs),
            settings,
            self.env,
            self.gpus or cell.gpus,
            (*problems, *missing),
            cell,
        )

    def _second_test(self, trained: Step, cell: Cell) -> Step:
        """Return the step that evaluates a trained cell again, with other settings."""
        from transfer.results.record import EVALUATIONS

        options = (*options_of(cell), *cell.also_test)
        task = find_config(cell.task)
        settings, problems = self._task(task_of_config(task), task, options, trained.name)
        return Step(
            f"{trained.name}/also-tested",
            (*(w for w in trained.command if w != "--resume"), *cell.also_test, "--eval-only"),
            trained.folder / EVALUATIONS / "*.json",
            (trained.name,),
            settings,
            self.env,
            trained.gpus,
            tuple(problems),
            cell,
        )

    def _task(
        self, kind: Task, config: Path, options: tuple[str, ...], cell: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Return config and data of a cell, and what is wrong with them."""
        try:
            resolved, data = task_settings(kind.name, config, options, self.data)
        except (ValueError, OSError) as error:
            return {"config": MISSING}, [f"{cell}: {error}"]
        settings: dict[str, Any] = {"config": resolved}
        if self.data is not None:
            return settings, []
        looks = {role: partial(files_digest, path) for role, path in data.items()}
        settings["data"], problems = looked_at(looks)
        told = [f"{p}: name the datasets' folder in {DATA_ROOT}" for p in problems]
        return settings, told

    def _weights(self, weights: Weights) -> tuple[str, Any, tuple[str, ...], list[str]]:
        """Return the tool's word for weights, what they are, needed steps, and problems."""
        if weights is None:
            return "none", None, (), []
        if isinstance(weights, Control) and weights.of is None:
            return f"control:{weights.kind}", weights.kind, (), []
        if isinstance(weights, Control):
            word, known, needs, problems = self._weights(weights.of)
            return f"control:{weights.kind}:{word}", {weights.kind: known}, needs, problems
        if isinstance(weights, Stage):
            step = self._stage(weights)
            return str(step.folder / ENCODER), "made by a step", (step.name,), []
        return self._file(weights)

    def _file(self, weights: Path | Released) -> tuple[str, Any, tuple[str, ...], list[str]]:
        try:
            file = weights_file(weights, Path.cwd())
            return str(file), content_digest(file), (), []
        except FileNotFoundError as error:
            return str(getattr(weights, "name", weights)), MISSING, (), [str(error)]


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
        recipe = recipe_from_json(pretrain_settings(find_config(like.config), like.options)[0])
        arch, arch_args = recipe.arch, transfer_arch_args(recipe.arch, recipe.arch_args)
    if arch is None:
        return ()
    return (f"arch={arch}", f"arch_args={json.dumps(arch_args)}")


def command_of(kind: Task, config: Path, folder: Path, words: list[str]) -> tuple[str, ...]:
    """Return the command of a task's tool, in its own form."""
    tool = kind.tool.removesuffix(".py")
    if kind.name == "detection":
        return (*_tool(tool, "--config-file", config, "--resume"), *words, f"output_dir={folder}")
    return (*_tool(tool, config, "--work-dir", folder, "--resume"), "--cfg-options", *words)


def find_config(name: str) -> Path:
    """Return a config's path, relative ones from the project's folder.

    Raises FileNotFoundError if it does not exist.
    """
    path = ROOT / name
    if not path.is_file():
        raise FileNotFoundError(f"the suite names {name}, which does not exist")
    return path


def _without_workers(words: tuple[str, ...]) -> list[str]:
    """Return the arguments that change the drawn dataset."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("--workers"):
            kept.append(word)
        skip = word == "--workers"
    return kept


def _tool(name: str, *arguments: object) -> tuple[str, ...]:
    return (str(ROOT / "tools" / f"{name}.py"), *map(str, arguments))
