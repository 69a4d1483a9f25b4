"""A config the whole way: data check, training, a stop by signal, resume, evaluation, record."""

import contextlib
import math
import os
import shutil
import signal
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from transfer.rehearsal import reduce
from transfer.rehearsal.finetuning import Classification
from transfer.rehearsal.reduce import Request
from transfer.rehearsal.ways import WAYS, Way, require

POLL_S = 0.005
ALL_WAYS: dict[str, type[Way]] = {**WAYS, "classification": Classification}


@dataclass
class Outcome:
    """What a rehearsal found."""

    config: str
    family: str
    form: str = ""  # of the data
    step_seconds: float = math.nan
    images_per_second: float = math.nan
    peak_memory_mib: float = math.nan
    hours: float = math.nan  # of the whole schedule at full size
    seconds: float = 0.0  # that the rehearsal took
    stage: str = ""  # at which it failed
    failure: str = ""  # empty: all went well
    traceback: str = ""  # its file
    notes: tuple[str, ...] = field(default_factory=tuple)


def rehearse(config: Path, name: str, folder: Path, request: Request) -> Outcome:
    """Go the whole way with `config`, called `name`, in `folder`; a failure is in the outcome."""
    outcome = Outcome(name, "")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        outcome.family = reduce.family_of(config)
        _whole_way(config, folder, request, outcome)
        outcome.stage = ""
        shutil.rmtree(folder)
    except (Exception, SystemExit) as error:  # the others go on
        outcome.failure = _first_line(error)
        outcome.traceback = str(folder / "traceback.txt")
        Path(outcome.traceback).write_text(traceback.format_exc())
    outcome.seconds = time.perf_counter() - started
    return outcome


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _whole_way(config: Path, folder: Path, request: Request, outcome: Outcome) -> None:
    outcome.stage = "preparation"
    way = ALL_WAYS[outcome.family](config, folder, request)
    outcome.form, outcome.notes = way.form, way.plan.notes
    outcome.stage = "training"
    with signal_when(way.state.is_file) as sent:
        way.start(resume=False)
    require(sent.is_set(), f"it ended before it was stopped: {way.state} was not seen")
    require(way.state.is_file(), f"there is no {way.state} to resume from")
    require(not way.product.is_file(), "it did not stop at SIGTERM: raise --steps")
    first_part = len(way.log())
    outcome.stage = "resume"
    way.start(resume=True)
    require(way.product.is_file(), f"it ended without {way.product.name}")
    _measure(way, first_part, outcome)
    outcome.stage = "result"
    way.check()
    outcome.stage = "test-time augmentation"
    way.augmented_test()


@contextlib.contextmanager
def signal_when(there: Callable[[], bool]) -> Iterator[threading.Event]:
    """Send this process SIGTERM as soon as `there()`; the event tells whether that happened."""
    sent, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if there():
                sent.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # where nothing else listens
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield sent
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)


def _measure(way: Way, first_part: int, outcome: Outcome) -> None:
    """Note the speed of steps that are not the first of a process, if there is one."""
    lines = way.log()
    warm = [line for i, line in enumerate(lines) if i not in (0, first_part)] or lines
    if not warm:
        return
    outcome.images_per_second = statistics.median(line["images_per_second"] for line in warm)
    outcome.step_seconds = way.plan.batch / max(outcome.images_per_second, 1e-9)
    outcome.peak_memory_mib = max(line.get("peak_memory_mib", math.nan) for line in lines)
    if way.request.full_size:
        outcome.hours = reduce.hours(way.plan, outcome.step_seconds)
