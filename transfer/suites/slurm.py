"""Run steps as jobs of a Slurm cluster, through submitit.

Each step is one job on one machine; it waits for the jobs of the steps that it needs. Before the
time of a job is up its step is asked to save, and the job goes back to the queue and resumes. A job
takes the lease of its step as any launcher does: a step submitted twice runs once.
"""

import getpass
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.suites.board import Board
from transfer.suites.launcher import STOP_WAIT_S, Launcher
from transfer.suites.local import LocalExecutor, visible_gpus
from transfer.suites.steps import Step

SUBMITTING = "submitting"  # the lease of who submits
WARNING_S = STOP_WAIT_S + 60  # before a job's time is up
REQUEUES = 1000
POLL_S = 5.0
JOB_SUFFIX = ".job"  # beside a step's folder: its job's number


@dataclass
class StepJob:
    """What a job does: run one step of a suite, and save it when the job's time is up."""

    steps: Sequence[Step]
    out: Path
    name: str
    launcher: Launcher | None = field(default=None, repr=False)

    def __call__(self) -> None:
        """Run the step. Raises RuntimeError if it fails, which tells Slurm."""
        board = Board(self.steps, self.out)
        executor = LocalExecutor(1, visible_gpus())
        executor.require_fit([board.steps[self.name]])
        self.launcher = Launcher(board, executor, board.with_needs({self.name}))
        self.launcher.run()
        if self.name not in self.launcher.done:
            raise RuntimeError(f"{self.name} failed, see {board.log(self.name)}")

    def checkpoint(self) -> Any:
        """Let the step save and end; return what takes it up again."""
        from submitit.helpers import DelayedSubmission

        if self.launcher is not None:
            self.launcher.stop()
        return DelayedSubmission(StepJob(self.steps, self.out, self.name))


class SlurmLauncher:
    """Submits the steps `only` of a board and watches them; `on_gpus` asks for each step's GPUs."""

    def __init__(
        self,
        board: Board,
        only: Collection[str],
        settings: Mapping[str, Any],
        poll_s: float = POLL_S,
        on_gpus: bool = True,
    ) -> None:
        self.board, self.only, self.settings = board, set(only), checked(settings)
        self.poll_s, self.on_gpus = poll_s, on_gpus
        self.jobs: dict[str, str] = {}  # name -> number
        self.queue: dict[str, str] = {}  # number -> state
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.watched: set[str] = set()  # had a job in the queue in this call
        self.done: set[str] = set()
        self.failed: dict[str, int | None] = {}
        self._look()

    @property
    def finished(self) -> bool:
        """Return whether every step is done, has failed, or cannot run."""
        return all(self.state(n) in ("done", "failed", "blocked") for n in self.only)

    def run(self) -> None:
        """Submit what is missing and watch until nothing is left in the queue."""
        self.submit()
        while not self.finished:
            time.sleep(self.poll_s)
            self._look()

    def stop(self) -> None:
        """Leave the jobs in the queue: the same command watches them again."""

    def submit(self) -> None:
        """Submit every step that is neither done nor in the queue already.

        Raises ValueError for a setting that sbatch does not have, or while another submits.
        """
        with self.board.lease(SUBMITTING):
            self._look()
            for name in (n for n in self.board.steps if n in self.only):
                if self.state(name) == "waiting":
                    self._submit(self.board.steps[name])

    def _submit(self, step: Step) -> None:
        import submitit

        executor = submitit.SlurmExecutor(self.board.out / "slurm" / "%j", REQUEUES)
        before = [self.jobs[need] for need in step.needs if need in self.jobs]
        waiting = {"dependency": f"afterok:{':'.join(before)}"} if before else {}
        gpus = {"gpus_per_node": step.gpus} if step.gpus and self.on_gpus else {}
        executor.update_parameters(
            **{
                "job_name": step.name.replace("/", "."),
                "signal_delay_s": WARNING_S,
                "ntasks_per_node": 1,
                "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True},
                **gpus,
                **self.settings,
                **waiting,
            }
        )
        steps = [s for n, s in self.board.steps.items() if n in self.board.with_needs({step.name})]
        job = executor.submit(StepJob(steps, self.board.out, step.name))
        self.jobs[step.name] = job.job_id
        self.queue[job.job_id] = "PENDING"
        self.watched.add(step.name)
        _job_file(step).parent.mkdir(parents=True, exist_ok=True)
        _job_file(step).write_text(job.job_id)

    def state(self, name: str) -> str:
        """Return done, failed, running, queued, waiting, left out, or blocked (by a failure)."""
        if name in self.done:
            return "done"
        if name in self.failed:
            return "failed"
        if name not in self.only:
            return "left out"
        in_queue = self.queue.get(self.jobs.get(name, ""))
        if in_queue is not None:
            return "running" if in_queue == "RUNNING" else "queued"
        needs = self.board.steps[name].needs
        blocked = any(self.state(n) in ("failed", "blocked", "left out") for n in needs)
        return "blocked" if blocked else "waiting"

    def elapsed_s(self, name: str) -> float | None:
        """Return the seconds since the step was first seen running, None if it was not."""
        if name in self.seconds or name not in self.began:
            return self.seconds.get(name)
        return time.monotonic() - self.began[name]

    def _look(self) -> None:
        """Take over how the queue and the steps on disk stand.

        The queue is asked first: a job that left it has left its product on the disk.
        """
        self.queue = queue()
        left = self.only - self.done - self.failed.keys()
        for name in (n for n in self.board.steps if n in left):
            file = _job_file(self.board.steps[name])
            if name not in self.jobs and file.is_file():
                self.jobs[name] = file.read_text().strip()
            in_queue = self.queue.get(self.jobs.get(name, ""))
            kind = self.board.state(name).kind
            if kind == "done":
                if name in self.began:
                    self.seconds[name] = time.monotonic() - self.began[name]
                self.done.add(name)
            elif in_queue is not None:
                self.watched.add(name)
                if in_queue == "RUNNING":
                    self.began.setdefault(name, time.monotonic())
            elif kind == "failed" or name in self.watched:
                self._count_as_failed(name)

    def _count_as_failed(self, name: str) -> None:
        """Take a step as failed, unless Slurm cancelled it for one that it needs."""
        needs = self.board.steps[name].needs
        if not any(self.state(need) in ("failed", "blocked") for need in needs):
            self.failed[name] = None


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return sbatch's settings. Raises ValueError for a time limit that is missing or too short."""
    minutes = settings.get("time")
    if not isinstance(minutes, int) or minutes * 60 <= 2 * WARNING_S:
        raise ValueError(
            f"--executor slurm needs --slurm time=MINUTES, more than {2 * WARNING_S // 60}: steps "
            f"are asked to save {WARNING_S} s before; got {minutes!r}"
        )
    return dict(settings)


def _job_file(step: Step) -> Path:
    return step.folder.with_name(step.folder.name + JOB_SUFFIX)


def queue() -> dict[str, str]:
    """Return the user's jobs: number -> state. Raises ValueError where there is no Slurm."""
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format=%i %T"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise ValueError(
            "--executor slurm: there is no squeue here; is this a login node?"
        ) from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"squeue failed: {error.stderr.strip()}") from error
    return dict(line.split(maxsplit=1) for line in said.splitlines() if line.strip())
