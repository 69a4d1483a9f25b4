"""Run a function in two processes that are joined by gloo, on this machine."""

from collections.abc import Callable
from pathlib import Path

from torch import distributed, multiprocessing


def in_two_processes(function: Callable[[int, Path], None], folder: Path) -> None:
    """Call `function(rank, folder)` in both; the first error of either is raised here."""
    multiprocessing.spawn(_join, (function, folder), nprocs=2)


def _join(rank: int, function: Callable[[int, Path], None], folder: Path) -> None:
    rendezvous = (folder / "rendezvous").as_uri()
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    function(rank, folder)
    distributed.destroy_process_group()
