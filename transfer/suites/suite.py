"""A suite: pretrainings, the cells that they feed, and the published table they stand beside."""

import inspect
import runpy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pretrain.run.options import did_you_mean, parse_key_value

ROOT = Path(__file__).resolve().parents[2]
PROBE = "probe"  # a cell's task: frozen features, which have no config


@dataclass(frozen=True)
class Pretrain:
    """A run of tools/pretrain.py; what it gives is its encoder file.

    `options` are words as the tool takes them ("--steps", "400"); `seed` None leaves the recipe's.
    `data` None means the suite's `pretrain_data`, or the unlabelled images it draws.
    """

    config: str  # configs/pretrain/NAME.py
    options: tuple[str, ...] = ()
    data: str | None = None
    seed: int | None = None
    gpus: int = 1
    name: str | None = None  # instead of one made of the config, the options and the seed


@dataclass(frozen=True)
class FineTune:
    """A run of tools/finetune.py on labelled images; it ends in a record and an encoder file.

    `data` None means the suite's `labelled_data`, or the objects of the dataset that it draws.
    """

    config: str  # configs/classification/NAME.py
    of: "Pretrain | FineTune | Released | Path | None"  # None: from scratch
    options: tuple[str, ...] = ()  # key=value
    data: str | None = None
    seed: int = 0
    gpus: int = 1
    name: str | None = None  # instead of one made of the config, the weights, options and seed


@dataclass(frozen=True)
class Released:
    """An official release by its name in configs/weights.json; its file lies in weights/."""

    name: str


@dataclass(frozen=True)
class Control:
    """What weights are held against: their values shuffled within each tensor, or random ones.

    Random weights are of nothing (`of` None) and only make sense frozen: the cell's options say so,
    and its `like` or `arch` names the network.
    """

    of: Pretrain | FineTune | Released | Path | None = None
    kind: Literal["shuffled", "random"] = "shuffled"

    def __post_init__(self) -> None:
        if (self.of is None) != (self.kind == "random"):
            raise ValueError("a control is Control(WEIGHTS), or Control(kind='random') of nothing")


Stage = Pretrain | FineTune  # what a command makes; it ends in an encoder file
Weights = Stage | Released | Control | Path | None


@dataclass(frozen=True)
class Cell:
    """One task trained from one set of weights, once per seed.

    `weights` None trains from scratch: `like` gives the architecture of a pretraining, `arch` names
    one, or the task's config has its own. Options are the cell's alone: one from scratch has its
    own learning rate and layer decay.
    """

    task: str  # configs/{detection,segmentation,classification}/NAME.py, or "probe"
    weights: Weights = None
    options: tuple[str, ...] = ()  # key=value, as the task's tool takes them
    seeds: tuple[int, ...] = (0,)
    like: Pretrain | None = None
    arch: str | None = None
    arch_args: dict[str, Any] = field(default_factory=dict)
    also_test: tuple[str, ...] = ()  # key=value of a second evaluation, e.g. ("tta.on=True",)
    gpus: int = 1
    name: str | None = None  # instead of one made of the weights and the options

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Weights):
            raise ValueError(
                f"weights={self.weights!r} of {self.task}: give Pretrain(...), Released(...), "
                "Control(...), Path(FILE), or None for a cell from scratch"
            )
        if isinstance(self.options, str) or isinstance(self.seeds, int):
            raise ValueError(f"options and seeds of {self.task} are tuples: ('lr=1e-4',), (0, 1)")
        if self.task == PROBE and self.also_test:
            raise ValueError("a probe is evaluated once: make another cell of what also_test says")
        on_classes = self.task == PROBE or "classification" in Path(self.task).parts
        if on_classes and isinstance(self.weights, Control):
            raise ValueError(f"{self.task} takes no control yet: detection and segmentation do")


@dataclass(frozen=True)
class Suite:
    """Cells and the data they need.

    `shapes` holds arguments of tools/make_shapes.py; None means that the datasets lie in standard
    layout under DETECTRON2_DATASETS and that `pretrain_data` names the images to pretrain on.
    `labelled_data` names the images with classes of fine-tunings and probes; None means the objects
    of the drawn dataset. `published` names sources of configs/published.json whose rows appear in
    the suite's table.
    """

    cells: tuple[Cell, ...]
    shapes: tuple[str, ...] | None = None
    pretrain_data: str | None = None
    labelled_data: str | None = None
    published: tuple[str, ...] = ()


def load_suite(path: Path, arguments: Iterable[str] = ()) -> Suite:
    """Load the `suite` that a file defines: a Suite, or a function of `arguments` (NAME=VALUE).

    Raises FileNotFoundError if there is no file, ValueError if it defines no suite or takes other
    arguments.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no suite at {path}; the shipped ones are in configs/suites")
    given = dict(map(parse_key_value, arguments))
    try:
        suite = runpy.run_path(str(path)).get("suite")
        if callable(suite):
            suite = suite(**_arguments(suite, given, path))
        elif given:
            raise ValueError(f"it takes no arguments, got {', '.join(given)}")
    except (TypeError, SyntaxError, NameError, ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(suite, Suite):
        raise ValueError(
            f"{path} does not define `suite = Suite(...)`, or a function that makes it"
        )
    return suite


def _arguments(
    make: Callable[..., Suite], given: Mapping[str, Any], path: Path
) -> Mapping[str, Any]:
    known = inspect.signature(make).parameters
    for name in given.keys() - known.keys():
        raise ValueError(f"it has no argument {name}{did_you_mean(name, known)}")
    missing = [n for n, p in known.items() if p.default is p.empty and n not in given]
    if missing:
        told = " ".join(f"--set {name}=..." for name in missing)
        raise ValueError(f"it needs {told}, for example {_first_example(path)}")
    return given


def _first_example(path: Path) -> str:
    """Return the first command line in the file's docstring."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return next((line for line in lines if line.startswith("python tools/")), "see the file")
