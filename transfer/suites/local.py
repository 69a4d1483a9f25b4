"""Run steps on this machine, up to some at once, each with GPUs of its own.

Steps die with the launcher, so that a killed one's successor never meets them; a step that was
interrupted is run again and resumes by itself.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from transfer.suites.steps import Step

VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalExecutor:
    """Processes of this machine; `gpus` are the devices that steps share, none on a CPU."""

    def __init__(self, jobs: int | None = None, gpus: Sequence[str] = ()) -> None:
        self.free, self.gpus = list(gpus), tuple(gpus)
        self.jobs = jobs or max(1, len(gpus))
        self.threads = max(1, (os.cpu_count() or 1) // self.jobs)
        self.device = device_name(bool(gpus))
        self.at_work: list[Process] = []

    def require_fit(self, steps: Iterable[Step]) -> None:
        """Raise ValueError for a step that takes more GPUs than there are."""
        for step in steps:
            if self.gpus and step.gpus > len(self.gpus):
                raise ValueError(
                    f"{step.name} takes {step.gpus} GPUs and there are {len(self.gpus)}: "
                    f"give --gpus-per-run {len(self.gpus)}, or more --gpus"
                )

    def has_room(self, step: Step) -> bool:
        """Return whether a place and the step's GPUs are free."""
        for ended in [p for p in self.at_work if p.poll() is not None]:
            self.at_work.remove(ended)
            self.free += ended.gpus
        return len(self.at_work) < self.jobs and self._wanted(step) <= len(self.free)

    def start(self, step: Step, log: Path) -> "Process":
        """Start the step on its GPUs; what it says is appended to `log`."""
        count = self._wanted(step)
        taken, self.free = self.free[:count], self.free[count:]
        around = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        env = {**around, **step.env, "OMP_NUM_THREADS": str(self.threads)}  # not a task of srun's
        if self.gpus:
            env[VISIBLE] = ",".join(taken)
        process = Process(command_line(step, max(1, count)), env, log, taken)
        self.at_work.append(process)
        return process

    def _wanted(self, step: Step) -> int:
        return step.gpus if self.gpus else 0


class Process:
    """A step at work in a process of its own."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], log: Path, gpus: Sequence[str]
    ) -> None:
        self.gpus = tuple(gpus)
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # torchrun stops its own processes when it is asked to, and not when it is killed
                preexec_fn=partial(_in_child, signal.SIGTERM if len(gpus) > 1 else signal.SIGKILL),
            )

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.process.poll()

    def ask_to_stop(self) -> None:
        """Ask the step to save and end."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the step at once, and wait until it has."""
        self.process.kill()
        self.process.wait()


def command_line(step: Step, processes: int) -> list[str]:
    """Return the step's command for this interpreter, by torchrun for several processes."""
    if processes == 1:
        return [sys.executable, *step.command]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *torchrun, *step.command]


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs of this machine, those of CUDA_VISIBLE_DEVICES where it is set."""
    import torch

    given = os.environ.get(VISIBLE)
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return tuple(map(str, range(torch.cuda.device_count())))


def device_name(cuda: bool) -> str:
    """Return the name of the machine's GPU, or "cpu", as records have it."""
    if not cuda:
        return "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _in_child(at_death: signal.Signals) -> None:
    """End the step when its launcher is killed: the next one must not meet it.

    Slurm may send a job's warning to every process of it; it is the launcher's to act on.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, at_death)
