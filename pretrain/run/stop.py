"""How a run ends: signals, numbers that are not finite, and the exit status of every tool."""

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

# The exit statuses of all tools; stopped by a signal: status_of_signal
DONE = 0
FAILED = 1  # stopped by itself while at work: a loss that is not finite, a full disk
REFUSED = 2  # before any work: what was asked for does not fit


MAY_BE_EMPTY = ("--tokenizer",)  # options


class NotFiniteError(ArithmeticError):
    """A loss, gradient or weight is NaN or infinite."""


class FailedError(RuntimeError):
    """The run cannot go on, though what was asked for fits; its last state is kept."""


class Stopped(SystemExit):
    """The run was asked to stop by a signal and has saved its state."""

    def __init__(self, number: int) -> None:
        super().__init__(status_of_signal(number))


def status_of_signal(number: int) -> int:
    """Return the exit status of a process that signal `number` ended, as shells count it."""
    return 128 + number


@dataclass
class StopRequest:
    """The signal that asked the run to end; 0 for none."""

    signal: int = 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let SIGTERM and SIGINT ask for an end after the step at hand; restore the handlers after.

    A second Ctrl-C ends the process at once. A second SIGTERM does not, since a launcher may send
    one to the process and one to its group. Outside of the main thread nothing is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    before: dict[int, Any] = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for caught, handler in before.items():
            signal.signal(caught, signal.SIG_DFL if handler is None else handler)


def exit_status(main: Callable[[], int | None]) -> int:
    """Run `main` and return the exit status; an expected error becomes one line on stderr.

    `python -X dev TOOL ...` lets the error pass, to see where it came from.
    """
    threading.excepthook = _tell_of_thread
    try:
        refuse_empty_words(sys.argv[1:])
        return main() or DONE
    except Stopped as stopped:
        return int(str(stopped.code))
    except KeyboardInterrupt:
        return _say("interrupted", status_of_signal(signal.SIGINT))
    except (ArithmeticError, FailedError) as error:
        return _say(error, FAILED)
    except (ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in STORAGE
        return _say(error, FAILED if full else REFUSED)


def refuse_empty_words(words: Sequence[str]) -> None:
    """Raise ValueError for an empty word, which is an unset variable in place of a path."""
    for word, before in zip(words, ["", *words], strict=False):
        if not word and before not in MAY_BE_EMPTY:
            place = f" after {before}" if before else ""
            raise ValueError(f"an empty word{place} on the command line (is a variable unset?)")


STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a disk full or broken


def _tell_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Print what ended a thread, but for a full disk: TensorBoard tells the main thread of that."""
    if not isinstance(ended.exc_value, OSError):
        threading.__excepthook__(ended)


def _say(what: object, status: int) -> int:
    if sys.flags.dev_mode and isinstance(what, Exception):
        raise what
    print(f"error: {what}", file=sys.stderr)
    return status


def outlive_signals(_worker: int) -> None:
    """Let a data process survive signals to its whole process group: the run saves first.

    It ends with its main process: when that one sends SIGTERM, as multiprocessing does at exit, or
    is gone, which torch's loop notices within seconds. On macOS, which does not tell who sent a
    signal, any SIGTERM ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    if main is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # to be waited for instead
        threading.Thread(target=_end_when_asked_by, args=(main.pid,), daemon=True).start()


def _end_when_asked_by(process: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != process:
        pass
    os._exit(0)  # as torch's own handler: with another status the main process reports a failure
