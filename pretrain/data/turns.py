"""Processes of a run that take turns with the data, waiting for one another without a time limit.

torch's own barrier gives up after 10 to 30 minutes; looking through 14 million images, or decoding
them all, takes hours.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from lightning_fabric import Fabric

PATIENCE = timedelta(days=30)

Answer = TypeVar("Answer")


class Turns:
    """A group of all processes of a run. Every process has to make one, and to call the same."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        several = fabric.world_size > 1
        self.group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if several else None

    def take(self, mine: bool, work: Callable[[], Answer]) -> Answer | None:
        """Run `work` where it is `mine`, while the others wait; return its answer there.

        What it raises there is raised on every process.
        """
        answer, error = None, None
        if mine:
            try:
                answer = work()
            except (ValueError, OSError) as raised:
                error = raised
        self._raise_first(error)
        return answer

    def _raise_first(self, error: Exception | None) -> None:
        errors: list[Exception | None] = [error]
        if self.group is not None:
            errors = [None] * self.fabric.world_size
            dist.all_gather_object(errors, error, group=self.group)
        for first in errors:
            if first is not None:
                raise first

    def in_order(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` on the first process, then on the first of each node, then on the rest.

        What the first leaves on a shared disk, or in its node's cache, serves the others.
        """
        fabric = self.fabric
        first_here = fabric.local_rank == 0 and not fabric.is_global_zero
        answers = [
            self.take(fabric.is_global_zero, work),
            self.take(first_here, work),
            self.take(fabric.local_rank != 0 and not fabric.is_global_zero, work),
        ]
        return next(answer for answer in answers if answer is not None)
