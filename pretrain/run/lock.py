"""One process at a time writes in a folder.

The lock is the kernel's (it falls with the process that holds it); beside it lies who holds it:
host, process id, and a heartbeat. On one machine the kernel decides. Machines that share a file
system may not see each other's locks; between them the heartbeat decides.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pretrain.files.write import refuse_file, writing

LOCK, HOLDER = ".lock", ".lock.json"
NAMES = (LOCK, HOLDER, f"{HOLDER}.new")

HEARTBEAT_S = 30
ABANDONED_S = 180  # without a heartbeat, on another machine
ORPHANS_S = 20  # that children of a killed process may outlive it, and its lock with them


@dataclass(frozen=True)
class Holder:
    """The process that writes in a folder."""

    host: str
    process: int
    heartbeat: float  # seconds since 1970

    @classmethod
    def here(cls) -> "Holder":
        """Return this process, now."""
        return cls(socket.gethostname(), os.getpid(), time.time())

    @classmethod
    def read(cls, folder: Path) -> "Holder | None":
        """Return what stands in the folder; None if nothing does."""
        try:
            return cls(**json.loads((folder / HOLDER).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write the holder to the folder atomically."""
        new = folder / f"{HOLDER}.new"
        new.write_text(json.dumps(asdict(self)))
        new.replace(folder / HOLDER)

    @property
    def is_elsewhere(self) -> bool:
        """Return whether the process runs, or ran, on another machine."""
        return self.host != socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Return whether the process runs; on another machine, whether it ran recently."""
        if self.is_elsewhere:
            return time.time() - self.heartbeat < ABANDONED_S
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if missing, for this process alone.

    Raises ValueError for a file, and if another process holds the folder. A dead process's lock is
    taken over. At the end the lock is removed, and the folder too if it was made here and is empty.
    """
    refuse_file(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, thread_local=False)
    ended = threading.Event()
    try:
        _acquire(lock, folder)
        beat = threading.Thread(target=_beat, args=(folder, ended), daemon=True)
        try:
            with writing(folder / HOLDER):
                Holder.here().write(folder)
            beat.start()
            yield
        finally:
            ended.set()
            if beat.ident:
                beat.join()
            for name in reversed(NAMES):  # the lock itself last, and while it is held
                (folder / name).unlink(missing_ok=True)
            lock.release()
    finally:
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def _beat(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):  # a full disk is the run's to report
            Holder.here().write(folder)


def _acquire(lock: FileLock, folder: Path) -> None:
    deadline = time.monotonic() + ORPHANS_S
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = Holder.read(folder)
            if holder is None or holder.is_alive or time.monotonic() > deadline:
                raise ValueError(_in_use(folder, holder)) from None
            time.sleep(0.2)
            continue
        holder = Holder.read(folder)
        if holder is not None and holder.is_elsewhere and holder.is_alive:
            lock.release()
            raise ValueError(_in_use(folder, holder))
        return


def _in_use(folder: Path, holder: Holder | None) -> str:
    if holder is None:
        return f"another process writes in {folder}: wait for it, or give another folder"
    text = f"process {holder.process} on {holder.host} writes in {folder}"
    if not holder.is_elsewhere:
        return f"{text}: wait for it, stop it, or give another folder"
    ago = max(0, time.time() - holder.heartbeat)
    return (
        f"{text} (last heard of {ago:.0f} s ago): wait for it or give another folder; if it is "
        f"dead, its lock falls {ABANDONED_S} s after its last heartbeat"
    )
