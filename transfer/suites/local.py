"""Run steps: what is missing, up to some at once, each a command in a process of its own.

A step is done when the file it ends in is there. Steps die with the runner, so that a killed one's
successor never meets them; a step that was interrupted is run again and resumes by itself.
"""

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretrain.files.write import atomic_write

ROOT = Path(__file__).resolve().parents[2]
STOP_WAIT_S = 300  # for a step at work to finish what it must and save


@dataclass(frozen=True)
class Step:
    """A command, the file it ends in, and the steps it waits for."""

    name: str
    command: tuple[str, ...]
    product: Path
    needs: tuple[str, ...] = ()
    configs: tuple[Path, ...] = ()  # their bytes are part of what the step is
    env: dict[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return a digest of the command and of the config files that it names."""
        digest = hashlib.sha256(json.dumps(self.command).encode())
        for config in self.configs:
            digest.update(config.read_bytes())
        return digest.hexdigest()[:16]


class Runner:
    """Runs what is missing, up to `jobs` steps at once; `poll` moves it on."""

    def __init__(self, steps: Sequence[Step], out: Path, jobs: int) -> None:
        self.steps = {step.name: step for step in steps}
        self.out, self.jobs = out, jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.marks = self._checked_marks()
        self.done = {s.name for s in steps if s.product.exists()}
        self.failed: dict[str, int] = {}  # name -> exit status
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self.seconds: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """Whether no step runs and no other can be started."""
        return not self.running and not self._ready()

    def poll(self) -> None:
        """Collect finished steps and start ready ones."""
        for name, (process, started) in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            del self.running[name]
            self.seconds[name] = time.monotonic() - started
            if status == 0 and self.steps[name].product.exists():
                self.done.add(name)
            else:
                self.failed[name] = status
        for step in self._ready()[: self.jobs - len(self.running)]:
            self._start(step)

    def stop(self) -> None:
        """Ask every running step to save and end; kill those that do not within STOP_WAIT_S.

        A killed step resumes from its last checkpoint: files are written atomically.
        """
        for process, _ in self.running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WAIT_S
        for process, _ in self.running.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> Path:
        """Return the log file of a step."""
        return self.out / "logs" / f"{name.replace('/', '-')}.log"

    def state(self, name: str) -> str:
        """Return done, failed, running, waiting or blocked (a step it needs failed)."""
        if name in self.done:
            return "done"
        if name in self.failed:
            return "failed"
        if name in self.running:
            return "running"
        needs = self.steps[name].needs
        return (
            "blocked" if any(self.state(n) in ("failed", "blocked") for n in needs) else "waiting"
        )

    def _ready(self) -> list[Step]:
        return [
            step
            for step in self.steps.values()
            if self.state(step.name) == "waiting" and all(n in self.done for n in step.needs)
        ]

    def _start(self, step: Step) -> None:
        self.marks[step.name] = step.fingerprint()
        self._save_marks()
        log = self.log(step.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **step.env, "OMP_NUM_THREADS": str(self.threads)}
        with log.open("ab") as stream:
            process = subprocess.Popen(
                step.command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.running[step.name] = (process, time.monotonic())

    @property
    def _marks_file(self) -> Path:
        return self.out / "steps.json"

    def _checked_marks(self) -> dict[str, str]:
        marks = json.loads(self._marks_file.read_text()) if self._marks_file.exists() else {}
        changed = [
            n for n, s in self.steps.items() if marks.get(n, s.fingerprint()) != s.fingerprint()
        ]
        if changed:
            raise ValueError(
                f"{self.out} holds steps made with other settings: {', '.join(changed)}; "
                "use another --out, or delete their folders and their lines in steps.json"
            )
        return marks

    def _save_marks(self) -> None:
        text = json.dumps(self.marks, indent=1, sort_keys=True)
        atomic_write(self._marks_file, lambda path: path.write_text(text))


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """End the step when the suite is killed, so that a new one does not write to the same files."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
