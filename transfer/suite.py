"""A suite -> the runs it still lacks -> records -> a table.

A suite is a literal list of cells; a cell is (what to load, what to train, seeds). From it follow
steps: make the embedded dataset, pretrain each recipe, run each cell, draw the table. Every step
is one of the project's own command lines in a process of its own, so a step can be repeated by
hand. A step is done when the file it ends in is there; a killed suite runs the rest.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pretrain.checkpoint import atomic_write

ROOT = Path(__file__).resolve().parent.parent
ENCODER_NAME = "encoder.safetensors"
RECORD_NAME = "result.json"
LOCK_WAIT_S = 20


@dataclass(frozen=True)
class Cell:
    """One task trained from one set of weights, once a seed.

    `weights` is a pretraining recipe (`configs/pretrain/NAME.py`), a weights file, or "none". A
    scratch cell says in `like` which recipe's architecture it trains, or gives `arch`.
    """

    weights: str
    task: str  # configs/detection/NAME.py or configs/segmentation/NAME.py
    like: str | None = None
    arch: str | None = None
    arch_args: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()  # key=value overrides of the task's config
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Suite:
    """Cells and the data they need.

    `shapes` holds arguments of tools/make_shapes.py; None means that the datasets lie in standard
    layout under DETECTRON2_DATASETS and that `pretrain_data` names the images to pretrain on.
    """

    cells: tuple[Cell, ...]
    shapes: tuple[str, ...] | None = None
    pretrain_data: str | None = None
    pretrain_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command, the file it ends in, and the steps it waits for."""

    name: str
    command: tuple[str, ...]
    product: Path
    needs: tuple[str, ...] = ()
    configs: tuple[Path, ...] = ()  # their bytes are part of what the step is
    env: dict[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Changes with the command or with the config files it names."""
        digest = hashlib.sha256(json.dumps(self.command).encode())
        for config in self.configs:
            digest.update(config.read_bytes())
        return digest.hexdigest()[:16]


def load_suite(path: Path) -> Suite:
    """The `suite` defined in a file under configs/suites."""
    if not path.is_file():
        raise FileNotFoundError(f"no suite at {path}; the shipped ones are in configs/suites")
    suite = runpy.run_path(str(path)).get("suite")
    if not isinstance(suite, Suite):
        raise ValueError(f"{path} does not define `suite = Suite(...)`")
    return suite


def plan(suite: Suite, out: Path) -> list[Step]:
    """Every step of the suite in an order that can be run, finished ones included."""
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
    kind = task_kind(task)
    recipe = _recipe(cell.weights)
    weights = cell.weights if recipe is None else str(out / _pretrain_name(recipe) / ENCODER_NAME)
    options = [f"weights={weights}", f"seed={seed}", *cell.options]
    arch, arch_args = _architecture(cell)
    if arch is not None:
        options += [f"arch={arch}", f"arch_args={json.dumps(arch_args)}"]
    if recipe is not None:
        needs = (*needs, _pretrain_name(recipe))
    name = f"{kind}/{task.stem}/{_label(cell)}/seed{seed}"
    folder = out / name
    if kind == "detection":
        head = _tool("train_net", "--config-file", task, "--resume")
        command = (*head, *options, f"output_dir={folder}")
    else:
        head = _tool("train_seg", task, "--work-dir", folder, "--resume")
        command = (*head, "--cfg-options", *options)
    return Step(name, command, folder / RECORD_NAME, needs, (task,), env)


def _label(cell: Cell) -> str:
    if cell.weights != "none":
        return Path(cell.weights).stem
    return f"scratch-{Path(cell.like).stem if cell.like else cell.arch}"


def task_kind(task: Path) -> Literal["detection", "segmentation"]:
    """The folder a task's config lies in says which framework trains it."""
    if task.parent.name == "detection":
        return "detection"
    if task.parent.name == "segmentation":
        return "segmentation"
    raise ValueError(f"{task}: a task's config lies in configs/detection or configs/segmentation")


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


class Runner:
    """Runs what is missing, up to `jobs` steps at once; `poll` moves it on."""

    def __init__(self, steps: Sequence[Step], out: Path, jobs: int) -> None:
        self.steps = {step.name: step for step in steps}
        self.out, self.jobs = out, jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.marks = self._checked_marks()
        self.done = {s.name for s in steps if s.product.exists()}
        self.failed: dict[str, int] = {}  # name -> exit status
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self.seconds: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """Nothing runs, and nothing more can be started."""
        return not self.running and not self._ready()

    def poll(self) -> None:
        """Collect finished steps and start ready ones."""
        for name, (process, started) in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            del self.running[name]
            self.seconds[name] = time.monotonic() - started
            if status == 0 and self.steps[name].product.exists():
                self.done.add(name)
            else:
                self.failed[name] = status
        for step in self._ready()[: self.jobs - len(self.running)]:
            self._start(step)

    def stop(self) -> None:
        """Ask every running step to save and end."""
        for process, _ in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in self.running.values():
            process.wait()

    def log(self, name: str) -> Path:
        """Where a step's output goes."""
        return self.out / "logs" / f"{name.replace('/', '-')}.log"

    def state(self, name: str) -> str:
        """done, failed, running, blocked (a step it needs failed) or waiting."""
        if name in self.done:
            return "done"
        if name in self.failed:
            return "failed"
        if name in self.running:
            return "running"
        needs = self.steps[name].needs
        return (
            "blocked" if any(self.state(n) in ("failed", "blocked") for n in needs) else "waiting"
        )

    def _ready(self) -> list[Step]:
        return [
            step
            for step in self.steps.values()
            if self.state(step.name) == "waiting" and all(n in self.done for n in step.needs)
        ]

    def _start(self, step: Step) -> None:
        self.marks[step.name] = step.fingerprint()
        self._save_marks()
        log = self.log(step.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **step.env, "OMP_NUM_THREADS": str(self.threads)}
        with log.open("ab") as stream:
            process = subprocess.Popen(
                step.command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.running[step.name] = (process, time.monotonic())

    @property
    def _marks_file(self) -> Path:
        return self.out / "steps.json"

    def _checked_marks(self) -> dict[str, str]:
        marks = json.loads(self._marks_file.read_text()) if self._marks_file.exists() else {}
        changed = [
            n for n, s in self.steps.items() if marks.get(n, s.fingerprint()) != s.fingerprint()
        ]
        if changed:
            raise ValueError(
                f"{self.out} holds steps made with other settings: {', '.join(changed)}; "
                "use another --out, or delete their folders and their lines in steps.json"
            )
        return marks

    def _save_marks(self) -> None:
        text = json.dumps(self.marks, indent=1, sort_keys=True)
        atomic_write(self._marks_file, lambda path: path.write_text(text))


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """A suite killed outright must not leave steps writing where its successor will write."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold `out` for one suite at a time; waits a little for a killed one's steps to vanish."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as handle:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"another suite is running in {out}: wait for it, or use another --out"
                    ) from None
                time.sleep(0.2)
        yield
