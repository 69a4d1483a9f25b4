"""Many configs: workers that import once, and a failure that stays its own config's.

A worker that dies (memory, a crash in compiled code) takes its pool with it. What is left is then
tried in pools of one config each, and the one that breaks such a pool is to blame.
"""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from transfer.rehearsal.reduce import Request
from transfer.rehearsal.run import Outcome, rehearse

OUTPUT = "output.txt"


def rehearse_all(
    configs: Sequence[Path], out: Path, request: Request, jobs: int
) -> Iterator[Outcome]:
    """Yield the outcome of each config as it comes; folders of those that pass are removed."""
    names = names_of(configs)
    left = list(names)
    for pool_of in (left, None):
        for group in [pool_of] if pool_of else [[config] for config in left]:
            for config, outcome in _in_pool(group, names, out, request, jobs):
                if outcome is not None:
                    left.remove(config)
                    yield outcome
    for config in left:
        failure = "the process died: out of memory, or a crash in compiled code"
        file = str(folder_of(out, names[config]) / OUTPUT)
        yield Outcome(names[config], "", stage="process", failure=failure, traceback=file)


def names_of(configs: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each config: its file's, with as many folders as tell it from others."""
    parts = {config: config.with_suffix("").parts for config in configs}
    names = {}
    for config, own in parts.items():
        others = [other for other in parts if other != config]
        depth = 1
        while depth < len(own) and any(parts[o][-depth:] == own[-depth:] for o in others):
            depth += 1
        names[config] = "/".join(own[-depth:])
    return names


def folder_of(out: Path, name: str) -> Path:
    """Return the folder of the config of this name."""
    return out / name.replace("/", "-")


def _in_pool(
    configs: Sequence[Path], names: Mapping[Path, str], out: Path, request: Request, jobs: int
) -> Iterator[tuple[Path, Outcome | None]]:
    """Yield configs with their outcomes; None for those whose pool broke."""
    with ProcessPoolExecutor(
        max_workers=min(jobs, len(configs)),
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1 if request.full_size else None,  # else peaks add up
    ) as pool:
        tasks: dict[Future[Outcome], Path] = {
            pool.submit(_quietly, c, names[c], folder_of(out, names[c]), request): c
            for c in configs
        }
        for task in as_completed(tasks):
            try:
                yield tasks[task], task.result()
            except BrokenProcessPool:
                yield tasks[task], None


def _quietly(config: Path, name: str, folder: Path, request: Request) -> Outcome:
    """Rehearse with all that is printed, compiled code included, in a file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stdout, stderr = os.dup(1), os.dup(2)
    with (folder / OUTPUT).open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            return rehearse(config, name, folder, request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.close(stdout)
            os.close(stderr)
