"""The clock of a training run: seconds of training, and those spent waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of training since the last reading, and how many of them went by without data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from now."""
        self.since, self.waited = time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        before = time.perf_counter()
        yield
        self.waited += time.perf_counter() - before

    def read(self) -> tuple[float, float]:
        """Return the seconds since the last reading and those waited, and reset both."""
        seconds = time.perf_counter() - self.since, self.waited
        self.restart()
        return seconds
