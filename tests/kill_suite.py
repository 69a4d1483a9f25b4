"""Kill a suite at random moments, again and again, then start it twice at once.

    python tests/kill_suite.py --out DIR [--kills 10] [--seed 0] [--suite FILE]

The suite is real launchers on steps that take a second or two: a dataset, three pretrainings, and
nine cells that save as they go and resume. Each kill is a SIGKILL of the launcher alone, at a
random moment; its steps must die with it. At last two launchers run side by side to the end. What
the steps noted must show that each ended once, that no two processes ever worked on one step at a
time, and that killed steps went on where they had saved. With --suite it is a real suite through
tools/run_suite.py, and no file that a step ended in may ever change. Exit 1 otherwise.
tests/transfer/suites/test_kills.py runs it quickly.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from transfer.suites.board import Board  # noqa: E402
from transfer.suites.launcher import Launcher  # noqa: E402
from transfer.suites.local import LocalExecutor  # noqa: E402
from transfer.suites.steps import Step  # noqa: E402

PARTS, PART_S = 20, 0.1  # of a step's work; it saves after each
METHODS, TASKS = ("spark", "fcmae", "beit"), ("detection", "segmentation", "classification")
WORK = """
import json, os, pathlib, sys, time
folder, notes, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
parts, part_s = int(sys.argv[4]), float(sys.argv[5])
folder.mkdir(parents=True, exist_ok=True)
state, at_work = folder / "state", folder / "at_work"
me = os.getpid()

def note(what):
    with notes.open("a") as file:
        file.write(json.dumps([name, what, me]) + "\\n")

def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

if at_work.exists() and alive(int(at_work.read_text() or 0)):
    note("met another")
at_work.write_text(str(me))
done = int(state.read_text()) if state.exists() else 0
note(f"from {done}")
for part in range(done, parts):
    time.sleep(part_s)
    if int(at_work.read_text()) != me:
        note("met another")
    new = folder / "state.new"
    new.write_text(str(part + 1))
    new.replace(state)
new = folder / "result.new"
new.write_text('{"made": 1}')
note("ended")
new.replace(folder / "result.json")
"""


def steps_of(out: Path, parts: int, part_s: float) -> list[Step]:
    def step(name: str, *needs: str) -> Step:
        product = out / name / "result.json"
        words = (product.parent, out / "notes.jsonl", name, parts, part_s)
        return Step(
            name, ("-c", WORK, *map(str, words)), product, needs, {"config": {"name": name}}
        )

    pretrainings = [step(f"pretrain/{m}", "shapes") for m in METHODS]
    cells = [step(f"{task}/{m}/seed0", f"pretrain/{m}") for task in TASKS for m in METHODS]
    return [step("shapes"), *pretrainings, *cells]


def start(arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    words = ("--out", arguments.out, "--parts", arguments.parts, "--part-s", arguments.part_s)
    command = [sys.executable, __file__, "launch", *map(str, words)]
    if arguments.suite:
        tool = (ROOT / "tools" / "run_suite.py", arguments.suite, "--jobs", 2, "--gpus", "none")
        command = [sys.executable, *map(str, tool), "--out", str(arguments.out / "suite")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def launch(arguments: argparse.Namespace) -> int:
    """One launcher of the suite, as tools/run_suite.py has it."""
    steps = steps_of(arguments.out, arguments.parts, arguments.part_s)
    launcher = Launcher(Board(steps, arguments.out), LocalExecutor(jobs=2), [s.name for s in steps])
    launcher.run()
    return 0 if launcher.done == launcher.only else 1


def notes(out: Path) -> list[tuple[str, str, int]]:
    file = out / "notes.jsonl"
    return (
        [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    )


def signs_of_work(arguments: argparse.Namespace) -> object:
    """What changes when a launcher has started a step."""
    marks = (arguments.out / "suite").rglob("*.step.json")
    return len(notes(arguments.out)), {path: path.stat().st_mtime_ns for path in marks}


def kill_once(arguments: argparse.Namespace, draw: random.Random) -> bool:
    """Kill a launcher with SIGKILL at a random moment; False if it had ended by itself."""
    before = signs_of_work(arguments)
    process = start(arguments)
    while process.poll() is None and signs_of_work(arguments) == before:
        time.sleep(0.01)
    most = 20.0 if arguments.suite else 0.75 * arguments.parts * arguments.part_s
    until = time.monotonic() + draw.uniform(0, most)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def faults(arguments: argparse.Namespace) -> list[str]:
    """What the notes of the steps say that must not be."""
    names = [s.name for s in steps_of(arguments.out, 0, 0)]
    said = notes(arguments.out)
    ended = Counter(name for name, what, _ in said if what == "ended")
    found = [f"{name} ended {ended[name]} times" for name in names if ended[name] != 1]
    found += [f"{name}: two at a time" for name, what, _ in said if what == "met another"]
    for name in names:
        places = [int(what.split()[1]) for n, what, _ in said if n == name and "from" in what]
        if places != sorted(places):
            found.append(f"{name} began again from {places}")
    return found


def ends(arguments: argparse.Namespace) -> dict[Path, tuple[int, int]]:
    """The files that steps of a real suite have ended in, and which writing of each it is."""
    names = ("result.json", "evals/*.json", "encoder.safetensors", "shapes.json")
    found = (path for name in names for path in (arguments.out / "suite").rglob(name))
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def kill_often(arguments: argparse.Namespace) -> tuple[int, list[str]]:
    """Kill launchers, then let two finish; return the number of kills and what must not be."""
    draw, kills, wrong = random.Random(arguments.seed), 0, []
    seen: dict[Path, tuple[int, int]] = {}
    for _ in range(arguments.kills):
        kills += kill_once(arguments, draw)
        wrong += [f"{path} changed" for path in seen if ends(arguments).get(path) != seen[path]]
        seen = ends(arguments)
    both = [start(arguments), start(arguments)]
    statuses = [process.wait() for process in both]
    wrong += [f"{path} changed" for path in seen if ends(arguments).get(path) != seen[path]]
    return kills, wrong + [f"a launcher ended with {status}" for status in statuses if status]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("test", "launch"), default="test")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--suite", type=Path, help="a real one")
    parser.add_argument("--parts", type=int, default=PARTS)
    parser.add_argument("--part-s", type=float, default=PART_S)
    arguments = parser.parse_args()
    if arguments.what == "launch":
        return launch(arguments)
    arguments.out.mkdir(parents=True)
    began = time.monotonic()
    kills, wrong = kill_often(arguments)
    wrong += [] if arguments.suite else faults(arguments)
    said = [what for _, what, _ in notes(arguments.out) if what.startswith("from ")]
    for line in wrong:
        print(line)
    steps = len(ends(arguments)) if arguments.suite else len(steps_of(arguments.out, 0, 0))
    resumed = "" if arguments.suite else f"{sum(what != 'from 0' for what in said)} resumed; "
    print(
        f"{kills} launchers killed, then two at once: {steps} steps, each ended once: "
        f"{'no' if wrong else 'yes'}; {resumed}{time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
