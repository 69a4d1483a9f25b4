"""Run a function over many items in processes, in order, under a progress bar."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

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
    pool_from: int | None = None,
) -> Iterator[Answer]:
    """Yield `map(function, items)` in order, by `workers` processes, under a bar `progress`.

    Fewer than `pool_from` items (POOL_FROM, if None) are worked on here. A process is sent
    `function` only once: it may carry an index of a million images.
    """
    bar = progress_bar() if progress else nullcontext()
    least = POOL_FROM if pool_from is None else pool_from
    workers = min(workers, len(items)) if len(items) >= least else 1
    with bar as shown, _pool(workers, function) as pool:
        answers: Iterable[Answer] = map(function, items)
        if pool:
            chunk = max(1, min(64, len(items) // (4 * workers)))
            answers = pool.map(_call, items, chunksize=chunk)
        if shown and progress:
            answers = shown.track(answers, len(items), description=progress)
        yield from answers


def progress_bar() -> Progress:
    """Return a progress bar with counts and times."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns)


def _pool(workers: int, function: Callable) -> AbstractContextManager[ProcessPoolExecutor | None]:
    if workers <= 1:
        return nullcontext()
    # forking a process that has threads (the bar's, torch's) can deadlock
    context = get_context("spawn")
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(function,)
    )


_of_this_process: list[Callable] = []


def _call(item: Any) -> Any:
    return _of_this_process[0](item)


def _begin(function: Callable) -> None:
    """Keep the function; leave no process behind when the one that started it is killed."""
    _of_this_process[:] = [function]
    parent = parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
