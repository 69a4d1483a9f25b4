"""A suite -> its steps in an order that can run.

From the cells follow steps: make the embedded dataset, pretrain each recipe, run each cell. Every
step is one of the project's own command lines in a process of its own, so a step can be repeated by
hand, and ends in a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pretrain.run.folder import ENCODER, RECORD, is_whole
from transfer.suites.commands import command_of, config_of, config_path, options_of, task_of, tool
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
    PROBE,
    Cell,
    Control,
    FineTune,
    Pretrain,
    Released,
    Stage,
    Suite,
    Weights,
)
from transfer.tasks import TASKS, Task

SHAPES = "shapes"
LABELLED = ("classification", "probe")  # tasks on images with classes


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
        command = tool("make_shapes", "--out", data, *words)
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
        config, folder = config_path(pretrain.config), self.out / name
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
            tool("pretrain", *arguments),
            folder / ENCODER,
            self.first if given is None else (),
            settings,
            gpus=self.gpus or pretrain.gpus,
            problems=tuple(problems),
            stage=pretrain,
        )

    def _finetuning(self, name: str, stage: FineTune) -> Step:
        config, folder = config_path(stage.config), self.out / name
        weights, known, needs, missing = self._weights(stage.of)
        settings, problems = looked_at(
            {"config": partial(finetune_settings, config, stage.options)}
        )
        images = self._labelled(name, stage.data)
        settings |= {**images.settings, "weights": known, "seed": stage.seed}
        words = [f"weights={weights}", f"seed={stage.seed}", *stage.options]
        evaluated = settings["config"] == MISSING or settings["config"]["evaluate"]
        return Step(
            name,
            command_of(TASKS["classification"], config, folder, words, images.path),
            folder / (RECORD if evaluated else ENCODER),
            (*images.needs, *needs),
            settings,
            gpus=self.gpus or stage.gpus,
            problems=(*dict.fromkeys((*problems, *images.problems)), *missing),
            stage=stage,
        )

    def _labelled(self, name: str, own: str | None = None) -> "Labelled":
        """Return the images with classes of a step: its own, the suite's, or the drawn ones."""
        given = own or self.suite.labelled_data
        if given is None:
            told = f"{name} has no images: set labelled_data of the suite, or data= of a FineTune"
            return Labelled(self.data, {}, () if self.data else (told,), self.first)
        path = Path(given).absolute()
        settings, problems = looked_at({"data": partial(labelled_digest, path)})
        return Labelled(path, settings, tuple(problems), ())

    def _cell(self, cell: Cell, seed: int) -> Step:
        kind, config, options = task_of(cell), config_of(cell), options_of(cell)
        name = cell_name(kind.name, cell, seed)
        folder, place = self.out / name, name.rpartition("/")[0]
        settings, problems = self._task(kind, config, options, place)
        images = self._labelled(place) if kind.name in LABELLED else None
        weights, known, needs, missing = self._weights(cell.weights)
        problems += [*(images.problems if images else ()), *missing]
        if settings["config"] != MISSING:
            problems += _unfit(cell, settings["config"], name)
        settings |= {"weights": known, "seed": seed, **(images.settings if images else {})}
        words = [f"weights={weights}", f"seed={seed}", *options]
        return Step(
            name,
            command_of(kind, config, folder, words, images.path if images else None),
            folder / RECORD,
            (*(images.needs if images else self.first), *needs),
            settings,
            self.env,
            1 if cell.task == PROBE else self.gpus or cell.gpus,
            tuple(problems),
            cell,
        )

    def _second_test(self, trained: Step, cell: Cell) -> Step:
        """Return the step that evaluates a trained cell again, with other settings."""
        from transfer.results.record import EVALUATIONS

        options = (*options_of(cell), *cell.also_test)
        settings, problems = self._task(task_of(cell), config_of(cell), options, trained.name)
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
        if self.data is not None or not data:
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


@dataclass(frozen=True)
class Labelled:
    """Images with classes: their fingerprint, what is wrong with them, the step that draws them."""

    path: Path | None
    settings: Mapping[str, Any]
    problems: tuple[str, ...]
    needs: tuple[str, ...]


def _unfit(cell: Cell, config: Mapping[str, Any], name: str) -> list[str]:
    """Return what keeps a cell with this resolved config from ending in a record."""
    problems = []
    if cell.weights is None and not config["arch"]:
        problems.append(f"{name} has neither weights nor a network: give like= or arch=")
    if config.get("evaluate") is False:
        problems.append(f"{name} ends in no record: evaluate is false; make it a FineTune")
    return problems


def _without_workers(words: tuple[str, ...]) -> list[str]:
    """Return the arguments that change the drawn dataset."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("--workers"):
            kept.append(word)
        skip = word == "--workers"
    return kept
