"""A case: a tool, what is wrong with its input, and the sentence that must tell.

Cases run in forked processes, in which torch and both frameworks are imported already.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0
OUTCOMES = ("clean", "other words", "accepted", "traceback", "hang", "written", "executed", "lost")
NEVER_SAID = ("weights_only", "OneDL")  # advice to read files unsafely; optional parts
RAN = "ran"  # a file of this name in the case's folder: code from an input was executed


@dataclass(frozen=True)
class Place:
    """Where a case finds things: the sound world, and a folder of its own to spoil copies in."""

    world: Path
    own: Path

    def words(self, text: str) -> list[str]:
        """Return the words of a command line, with the places filled in."""
        names = {"{w}": str(self.world), "{o}": str(self.own), "{r}": str(ROOT)}
        words = shlex.split(text)
        for short, path in names.items():
            words = [word.replace(short, path) for word in words]
        return words

    def copy(self, name: str, to: str | None = None) -> Path:
        """Return a copy of a file or folder of the world in the case's own folder."""
        source, target = self.world / name, self.own / (to or Path(name).name)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return target


@dataclass(frozen=True)
class Case:
    """Run `tool` with `words`; {w} is the world, {o} the case's folder, {r} the repository.

    `expect` is a regular expression for the error. `prepare` makes the bad input. `statuses` are
    those that tell of a refusal. `may_write` names what may lie in the case's folder afterwards.
    """

    name: str
    tool: str
    words: str
    expect: str
    prepare: Callable[[Place], None] | None = None
    statuses: tuple[int, ...] = (2,)
    may_write: tuple[str, ...] = ()
    fault: Callable[[], None] | None = None  # befalls the tool's process before it begins
    kept: str = ""  # a file that must stay as it was
    again: str = ""  # words that then bring the run to its end
    same: tuple[tuple[str, str], ...] = ()  # (file of the world, file) that must then be equal


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    kind: str
    seconds: float
    text: str = field(repr=False, default="")  # what the tool said


@dataclass
class _Running:
    case: Case
    place: Place
    process: int
    started: float
    before: set[Path]
    kept: bytes


def run_tool(tool: str, words: Sequence[str], place: Place) -> None:
    """Run a tool in a forked process; RuntimeError with what it said if it fails."""
    process = os.fork()
    if process == 0:
        _be_the_tool(tool, list(words), place)
    _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError(f"{tool} {' '.join(words)}:\n{_said(place).read_text()}")


def run_cases(cases: Sequence[Case], world: Path, folder: Path, jobs: int) -> Iterator[Outcome]:
    """Yield the outcome of each case, `jobs` at once, in the order in which they end."""
    waiting, running = list(reversed(cases)), list[_Running]()
    while waiting or running:
        while waiting and len(running) < jobs:
            case = waiting.pop()
            running.append(_start(case, Place(world, folder / case.name)))
        time.sleep(0.01)
        for one in list(running):
            outcome = _outcome(one)
            if outcome is not None:
                running.remove(one)
                shutil.rmtree(one.place.own, ignore_errors=True)
                yield outcome


def _start(case: Case, place: Place) -> _Running:
    place.own.mkdir(parents=True)
    if case.prepare is not None:
        case.prepare(place)
    before = _files(place.own)
    kept = (place.own / case.kept).read_bytes() if case.kept else b""
    process = os.fork()
    if process == 0:
        _be_the_tool(case.tool, place.words(case.words), place, case.fault)
    return _Running(case, place, process, time.monotonic(), before, kept)


def _be_the_tool(
    tool: str, words: list[str], place: Place, fault: Callable[[], None] | None = None
) -> None:
    """Become the tool: its arguments, its output into a file beside the case's folder."""
    os.setsid()
    stream = os.open(_said(place), os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.dup2(stream, 2)
    os.dup2(stream, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(place.own)
    sys.path.insert(0, str(ROOT / "tools"))
    status = 1
    try:
        path = ROOT / "tools" / f"{tool}.py"
        sys.argv = [str(path), *words]
        if fault is not None:
            fault()
        runpy.run_path(str(path), run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _said(place: Place) -> Path:
    return place.own.with_name(place.own.name + ".txt")


def _outcome(one: _Running) -> Outcome | None:
    """Return the outcome of a case that has ended or run out of time; None while it runs."""
    seconds = time.monotonic() - one.started
    ended, status = os.waitpid(one.process, os.WNOHANG)
    if not ended and seconds < LIMIT_S:
        return None
    if not ended:
        os.killpg(one.process, signal.SIGKILL)
        os.waitpid(one.process, 0)
    text = _said(one.place).read_text(errors="replace")
    _said(one.place).unlink()
    kind = _kind(one, os.waitstatus_to_exitcode(status) if ended else None, text)
    lost = _lost(one) if kind == "clean" else ""
    return Outcome(one.case, "lost" if lost else kind, seconds, text + lost)


def _lost(one: _Running) -> str:
    """Return what a fault has left or taken; "" where the run goes on as if nothing had been."""
    case, own = one.case, one.place.own
    left = [path.name for path in own.rglob(".*.tmp")]
    if left:
        return f"half-written: {left}"
    if case.kept and (own / case.kept).read_bytes() != one.kept:
        return f"{case.kept} is not as it was"
    if case.again:
        try:
            run_tool(case.tool, one.place.words(case.again), one.place)
        except RuntimeError as error:
            return str(error)
    contents = [[_content(Path(*one.place.words(f))) for f in pair] for pair in case.same]
    return "".join(f"{p} differ" for p, (a, b) in zip(case.same, contents, strict=True) if a != b)


def _content(path: Path) -> Any:
    """Return what must be equal: a record's figures, another file's bytes."""
    return json.loads(path.read_text())["metrics"] if path.suffix == ".json" else path.read_bytes()


def _kind(one: _Running, status: int | None, text: str) -> str:
    case, own = one.case, one.place.own
    written = {path.relative_to(own) for path in _files(own) - one.before}
    if any(own.rglob(RAN)):
        return "executed"
    if status is None:
        return "hang"
    if "Traceback" in text or status < 0:
        return "traceback"
    if any(word in text for word in NEVER_SAID):
        return "other words"
    if status not in case.statuses:
        return "accepted" if status == 0 else "other words"
    if any(path.parts[0] not in case.may_write for path in written):
        return "written"
    return "clean" if re.search(case.expect, text, re.DOTALL) else "other words"


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
