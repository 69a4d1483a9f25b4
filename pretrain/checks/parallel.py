"""Run a function over many items in processes, in order, under a progress bar."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

POOL_FROM = 256  # starting processes costs more than reading fewer images than this


Item = TypeVar("Item")


Answer = TypeVar("Answer")


def parallel_map(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    *,
    workers: int = 1,
    progress: str | None = None,
) -> Iterator[Answer]:
    """`map(function, items)` in order, by `workers` processes, under a bar titled `progress`."""
    bar = progress_bar() if progress else nullcontext()
    with bar as shown, _pool(workers if len(items) >= POOL_FROM else 1) as pool:
        answers: Iterable[Answer] = map(function, items)
        if pool:
            answers = pool.map(function, items, chunksize=max(1, min(64, len(items) // workers)))
        if shown and progress:
            answers = shown.track(answers, len(items), description=progress)
        yield from answers


def progress_bar() -> Progress:
    """A bar with counts and times."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns)


def _pool(workers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    if workers <= 1:
        return nullcontext()
    # forking a process that has threads (the bar's, torch's) can deadlock
    context = get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Leave no process behind that waits for work when the one that started it is killed."""
    parent = parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
