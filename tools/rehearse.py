"""Rehearse configs on made-up data: data check, training, a stop, resume, evaluation, record.

    python tools/rehearse.py configs/detection/*.py [--jobs 2]
    python tools/rehearse.py configs/pretrain/NAME.py --full-size --steps 10 [--processes 8]

Small by default. With --full-size the config is taken as it is for a few steps: the check before a
long run, with its step time, memory and hours. The data is made, so the time to read real files is
not in it. Exit status 1 if a config fails.
"""

import math
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pretrain.run.stop import exit_status
from transfer.rehearsal.pool import names_of, rehearse_all
from transfer.rehearsal.reduce import IMAGENET_IMAGES, Request, family_of
from transfer.rehearsal.run import Outcome

ROOT = Path(__file__).resolve().parents[1]
TABLE_WIDTH = 110  # characters, in a file
SHIPPED = tuple(
    f"configs/{kind}" for kind in ("pretrain", "classification", "detection", "segmentation")
)


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    configs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files of pretraining or of a task; none: all that are shipped."""
    steps: int = 3
    """Optimizer steps of each run; at least 3, since it is stopped on the way."""
    processes: int = 1
    """Processes of each run, started with torchrun."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    full_size: bool = False
    """Nothing made small: step time, memory and hours of the config itself."""
    jobs: int = 1
    """Configs at once."""
    images: int = IMAGENET_IMAGES
    """Images of the data set to pretrain on, from which the hours are counted."""
    out: Path | None = None
    """Folder for what failed; default: a temporary one."""


def main(arguments: Arguments) -> int:
    """Rehearse the configs; return the exit status."""
    if arguments.steps < 3 or arguments.jobs < 1 or arguments.processes < 1:
        raise ValueError("--steps must be at least 3, --jobs and --processes at least 1")
    shipped = [path for folder in SHIPPED for path in sorted((ROOT / folder).glob("*.py"))]
    configs = [path.resolve() for path in arguments.configs or shipped]
    for config in configs:
        if not config.is_file():
            raise FileNotFoundError(f"no config at {config}")
        family_of(config)
    on_gpu = choose_device(arguments.device)
    request = Request(
        arguments.steps, arguments.processes, arguments.full_size, on_gpu, arguments.images
    )
    out = arguments.out or Path(tempfile.mkdtemp(prefix="rehearsal-"))
    outcomes = shown(configs, out.resolve(), request, arguments.jobs)
    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table(outcomes, request))
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        print(f"{outcome.config}: {outcome.stage}: {outcome.failure}\n    {outcome.traceback}")
    if not failed and arguments.out is None:
        shutil.rmtree(out)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} configs passed")
    return 1 if failed else 0


def choose_device(device: str) -> bool:
    """Show only `device` to all that is started from here; return whether it is a GPU."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (
        number and not (kind == "cuda" and number.isdigit())
    ):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return False
    if number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: torch finds no GPU")
    return torch.cuda.is_available()


def shown(configs: list[Path], out: Path, request: Request, jobs: int) -> list[Outcome]:
    """Return the outcomes in the order of the configs, with a progress bar meanwhile."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    outcomes = {}
    with Progress(*columns) as progress:
        bar = progress.add_task("rehearsing", total=len(configs))
        for outcome in rehearse_all(configs, out, request, jobs):
            outcomes[outcome.config] = outcome
            said = (
                f"[red]{outcome.stage}: {outcome.failure}" if outcome.failure else "[green]passed"
            )
            progress.console.print(f"{outcome.config}: {said}", highlight=False)
            progress.advance(bar)
    return [outcomes[name] for name in names_of(configs).values()]


def table(outcomes: list[Outcome], request: Request) -> Table:
    """Return one line a config."""
    sizes = "full size" if request.full_size else "small"
    found = Table(title=f"Rehearsal, {sizes}, {request.steps} steps", title_justify="left")
    for heading in ("config", "family", "data"):
        found.add_column(heading, no_wrap=True)
    measured = ("s/step", "images/s", *(("MiB", "hours") if request.full_size else ()))
    for heading in measured:
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("result", overflow="fold")
    for o in outcomes:
        result = f"[red]failed: {o.stage}" if o.failure else ", ".join(("passed", *o.notes))
        numbers = [number(o.step_seconds, 3), number(o.images_per_second, 1)]
        if request.full_size:
            numbers += [number(o.peak_memory_mib, 0), number(o.hours, 1)]
        found.add_row(o.config, o.family, o.form, *numbers, result)
    return found


def number(value: float, digits: int) -> str:
    """Format a number with `digits` decimals; "" for NaN."""
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
