"""A stand-in for the commands of Slurm that suites use, for tests: one machine, jobs as processes.

`install(folder)` writes sbatch, squeue, sacct, scancel, scontrol and srun into a folder for PATH.
Jobs are kept as files below $SLURM_STAND_IN. The time of a job is up, whatever its --time, once
`time_is_up` was called: it is warned (--signal), and killed WARNING_S later. The warning reaches
all processes but the batch shell, as it does where Slurm tracks processes without cgroups.
Dependencies (afterok) and requeueing are as Slurm has them.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")
WARNING_S = 60.0  # from the warning to the kill
ALIVE = ("PENDING", "RUNNING", "REQUEUED")


def install(folder: Path) -> None:
    folder.mkdir()
    for name in COMMANDS:
        file = folder / name
        file.write_text(
            f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n'
        )
        file.chmod(0o755)


def home() -> Path:
    return Path(os.environ["SLURM_STAND_IN"])


def read(number: str) -> dict:
    return json.loads((home() / f"{number}.json").read_text())


def write(number: str, **changes) -> None:
    file = home() / f"{number}.json"
    job = {**(json.loads(file.read_text()) if file.exists() else {}), **changes}
    new = file.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(job))
    new.replace(file)


def numbers() -> list[str]:
    return sorted((f.stem for f in home().glob("*.json")), key=int)


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    flags = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.M))
    home().mkdir(exist_ok=True)
    number = str(len(numbers()) + 1)
    kept = home() / f"{number}.sh"
    kept.write_text(text)
    write(number, state="PENDING", flags=flags, restarts=0, requeue=False, pid=0)
    me = [sys.executable, __file__, "daemon", number]
    with (home() / f"{number}.log").open("ab") as log:
        subprocess.Popen(
            me, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    print(f"Submitted batch job {number}")


def daemon(number: str) -> None:
    """Wait for what the job depends on, run it, and run it again where it is requeued."""
    needs = re.findall(r"\d+", read(number)["flags"].get("dependency", ""))
    while not all(read(need)["state"] == "COMPLETED" for need in needs):
        if any(read(need)["state"] not in (*ALIVE, "COMPLETED") for need in needs):
            return write(number, state="CANCELLED")
        time.sleep(0.1)
    while True:
        state = run(number)
        if not read(number)["requeue"]:
            return write(number, state=state)
        write(number, state="PENDING", requeue=False, restarts=read(number)["restarts"] + 1)


def run(number: str) -> str:
    one = ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES")
    zero = ("SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID")
    env = {
        **os.environ,
        "SLURM_JOB_ID": number,
        **dict.fromkeys(one, "1"),
        **dict.fromkeys(zero, "0"),
    }
    env["SLURM_JOB_NODELIST"] = os.uname().nodename
    job = subprocess.Popen(["bash", str(home() / f"{number}.sh")], env=env, start_new_session=True)
    write(number, state="RUNNING", pid=job.pid)
    while not up(number).exists():
        if wait(job, 0.1):
            return ended(number, job)
    up(number).unlink()
    for pid in processes_of(job.pid):
        os.kill(pid, signal.SIGUSR2)
    if wait(job, WARNING_S):
        return ended(number, job)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    return "TIMEOUT"


def up(number: str) -> Path:
    return home() / f"{number}.time-is-up"


def time_is_up(number: str) -> None:
    up(number).touch()


def processes_of(session: int) -> list[int]:
    """The processes of a session but its first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(stat.parent.name))
    return [pid for pid in found if pid != session]


def wait(job: subprocess.Popen, seconds: float) -> bool:
    try:
        job.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def ended(number: str, job: subprocess.Popen) -> str:
    if read(number)["state"] == "CANCELLED":
        return "CANCELLED"
    return "COMPLETED" if job.returncode == 0 else "FAILED"


def squeue(*_: str) -> None:
    for number in numbers():
        state = read(number)["state"]
        if state in ALIVE:
            print(number, state)


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for number in numbers():
        print(f"{number}|{read(number)['state']}|here")


def scancel(number: str, *_: str) -> None:
    write(number, state="CANCELLED")
    if read(number)["pid"]:
        os.killpg(read(number)["pid"], signal.SIGKILL)


def scontrol(what: str, number: str) -> None:
    assert what == "requeue"
    write(number, requeue=True)


def srun(*words: str) -> None:
    """Run the command with its output where --output and --error name it."""
    rest, named = list(words), {}
    while rest and rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag in ("--output", "--error"):
            named[flag] = rest.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    for flag, stream in (("--output", 1), ("--error", 2)):
        if flag in named:
            Path(named[flag]).parent.mkdir(parents=True, exist_ok=True)
            os.dup2(os.open(named[flag], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    command = [word.replace("%j", os.environ["SLURM_JOB_ID"]) for word in rest]
    os.execvp(command[0], command)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
