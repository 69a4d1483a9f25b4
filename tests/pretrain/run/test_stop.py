"""Signals ask for an end, errors become one line and a status, handlers are put back."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain.run.stop import NotFiniteError, Stopped, exit_status, stop_on_signals

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_handlers_are_restored(number: int) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with stop_on_signals() as request:
        assert request.signal == 0
        os.kill(os.getpid(), number)
        assert request.signal == number
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not() -> None:
    code = """
import os, signal
from pretrain.run.stop import stop_on_signals
with stop_on_signals():
    for number in ({}):
        os.kill(os.getpid(), getattr(signal, number))
    print("goes on")
"""

    def run(*names: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-c", code.format(str(names)[1:-1])]
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)

    assert run("SIGINT", "SIGINT").returncode == -signal.SIGINT
    assert run("SIGTERM", "SIGTERM", "SIGINT").stdout == "goes on\n"


def test_outside_of_the_main_thread_nothing_is_caught() -> None:
    found = []

    def work() -> None:
        with stop_on_signals() as request:
            found.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def fail(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ValueError("lr must be positive"), 2, "error: lr must be positive\n"),
        (FileNotFoundError("no weights at x"), 2, "error: no weights at x\n"),
        (NotFiniteError("step 3: nan"), 1, "error: step 3: nan\n"),
        (OSError(errno.ENOSPC, "No space left"), 1, "error: [Errno 28] No space left\n"),
        (Stopped(signal.SIGTERM), 143, ""),
        (Stopped(signal.SIGINT), 130, ""),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_one_table_of_exit_statuses(
    error: BaseException, status: int, says: str, capsys: pytest.CaptureFixture
) -> None:
    assert exit_status(fail(error)) == status
    assert capsys.readouterr().err == says


def test_what_is_not_expected_passes() -> None:
    with pytest.raises(AttributeError):
        exit_status(fail(AttributeError("a bug")))
    assert exit_status(lambda: None) == 0
    assert exit_status(lambda: 7) == 7
