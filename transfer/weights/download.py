"""A file from the first of several addresses that gives it: resumed, and whole or not at all.

FILE.part       a download that broke off, taken up by the next start
FILE.part.json  the address it came from, and what the server said of the file
"""

import errno
import http.client
import json
import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pretrain import __version__
from pretrain.files.read import WeightsError
from pretrain.files.write import atomic_write

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0  # without a byte
WAITS_S = (1.0, 4.0, 16.0)  # before the next tries of an address, counted anew after each byte
SECONDS_BETWEEN_LINES = 10.0  # where the output is not a terminal
CHUNK = 2**20
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that another try may not meet
FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(Exception):
    """No address gave the file; the message says why, address by address."""


class _BrokenOffError(Exception):
    """The connection failed or ended early; what has come stays for another try."""


class _RefusedError(Exception):
    """The address does not give the file, however often it is asked."""


@dataclass(frozen=True)
class _Told:
    """What a server said of the file whose beginning lies in FILE.part."""

    address: str
    validator: str | None  # a strong ETag or the date of the last change; None: cannot be resumed
    size: int | None  # bytes of the whole file


def download(addresses: Sequence[str], path: Path, check: Callable[[Path], object]) -> None:
    """Fetch `path` from the first address that gives it; do nothing where it is there by then.

    One process fetches, others that want the same file wait for it. `check` gets the whole file
    before it has its name, and raises WeightsError for another file than the one that is wanted.
    Raises DownloadError, and OSError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.is_file():
            return
        reasons = []
        for address in addresses:
            try:
                _fetch(address, path, check)
                return
            except (_BrokenOffError, _RefusedError, WeightsError) as error:
                reasons.append(f"{address}: {error}")
                logger.warning("%s", reasons[-1])
        raise DownloadError("; ".join(reasons))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock; it is removed once the file is there, when it has no use any more."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that fetches %s", path)
        lock.acquire()
    try:
        yield
    finally:
        if path.is_file():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _fetch(address: str, path: Path, check: Callable[[Path], object]) -> None:
    """Fetch from one address, with further tries as long as bytes come."""
    part, tries = _part(path), 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(address, path)
            break
        except _BrokenOffError as error:
            tries = 0 if part.is_file() and part.stat().st_size > before else tries
            if tries == len(WAITS_S):
                raise
            logger.info("%s: %s; trying again in %g s", address, error, WAITS_S[tries])
            time.sleep(WAITS_S[tries])
            tries += 1
    try:
        check(part)
    except WeightsError:
        _drop(path)
        raise
    part.replace(path)
    _drop(path)


def _receive(address: str, path: Path) -> None:
    """Bring FILE.part to its whole length."""
    told = _told(path, address)
    have = _part(path).stat().st_size if told else 0
    if told and have and have == told.size:
        return  # ended between the last byte and its name
    if not have:
        _drop(path)
    try:
        with urlopen(_request(address, told, have), timeout=TIMEOUT_S) as response:
            _store(response, address, path, have)
    except HTTPError as error:
        raise _of_status(error, path) from None
    except (URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, socket.gaierror):
            raise _RefusedError(f"its host is not known here ({reason.strerror})") from None
        raise _BrokenOffError(str(reason) or type(reason).__name__) from None


def _request(address: str, told: _Told | None, have: int) -> Request:
    headers = {"User-Agent": f"mim-transfer/{__version__}", "Accept-Encoding": "identity"}
    if told and told.validator and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": told.validator}
    return Request(address, headers=headers)


def _of_status(error: HTTPError, path: Path) -> Exception:
    """Return what a status other than success means."""
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        _drop(path)
        return _BrokenOffError("the file there is shorter than what had come of it")
    kind = _BrokenOffError if error.code in PASSING else _RefusedError
    return kind(f"answers {error.code} {error.reason}")


def _store(response: Any, address: str, path: Path, have: int) -> None:
    """Write a response behind what is there, or in its place where it is the whole file."""
    resumed = response.status == HTTPStatus.PARTIAL_CONTENT
    if response.headers.get_content_type() == "text/html":
        raise _RefusedError("gives a web page, not the file: open it in a browser")
    size = _size_of(response, have if resumed else 0)
    if size is None and not response.chunked:
        raise _RefusedError("does not say how long the file is, so that its end would not show")
    if not resumed:
        have = 0
        _drop(path)
        validator = _validator(response.headers)
        _remember(path, _Told(address, validator, size))
    _require_space(path, size, have)
    try:
        _write(response, path, have, size)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _drop(path)
        message = f"no space left for {path.name}; what had come of it was removed"
        raise OSError(error.errno, message, str(path.parent)) from None
    found = _part(path).stat().st_size
    if size is not None and found != size:
        raise _BrokenOffError(f"broke off after {found:,} of {size:,} bytes")


def _write(response: Any, path: Path, have: int, size: int | None) -> None:
    with _part(path).open("ab") as file, _progress(path.name, have, size) as advance:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            advance(len(chunk))


def _size_of(response: Any, have: int) -> int | None:
    """Return the bytes of the whole file, None where they are not told."""
    length = response.headers.get("Content-Length")
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return int(length) if length else None
    span, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(have):
        raise _RefusedError(f"gives the bytes {span or '?'}, asked for those from {have}")
    return int(whole) if whole.isdecimal() else None


def _validator(headers: Any) -> str | None:
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _require_space(path: Path, size: int | None, have: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size is not None and size - have > free:
        missing = f"{path.name} needs {decimal(size - have)}, {decimal(free)} are free"
        raise OSError(errno.ENOSPC, missing, str(path.parent))


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _notes(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def _told(path: Path, address: str) -> _Told | None:
    """Return what was said of FILE.part where it came from `address` and can be resumed."""
    try:
        told = _Told(**json.loads(_notes(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    usable = told.address == address and (told.validator or told.size) and _part(path).is_file()
    return told if usable else None


def _remember(path: Path, told: _Told) -> None:
    atomic_write(_notes(path), lambda p: p.write_text(json.dumps(asdict(told)) + "\n"))


def _drop(path: Path) -> None:
    _part(path).unlink(missing_ok=True)
    _notes(path).unlink(missing_ok=True)


@contextmanager
def _progress(name: str, have: int, size: int | None) -> Iterator[Callable[[int], None]]:
    """Show bytes, speed and time left: a bar on a terminal, elsewhere a line now and then."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=size, completed=have)
        printed = time.monotonic()

        def advance(count: int) -> None:
            nonlocal printed
            bar.advance(task, count)
            if bar.disable and time.monotonic() - printed > SECONDS_BETWEEN_LINES:
                printed = time.monotonic()
                logger.info("%s", _line(name, bar.tasks[0]))

        yield advance


def _line(name: str, task: Any) -> str:
    whole = f" of {decimal(int(task.total))}" if task.total else ""
    left = "" if task.time_remaining is None else f", {task.time_remaining:.0f} s left"
    return f"{name}: {decimal(int(task.completed))}{whole}, {decimal(int(task.speed or 0))}/s{left}"
