"""Kill a pretraining run at random moments; it must end as one that was never killed.

    python tests/kill_and_resume.py RECIPE --data DIR --out DIR [--kills 20] [--option ...]

Runs the recipe unbroken into OUT/whole. Then runs it into OUT/killed-1 with --resume, over and
over, each time killed with SIGKILL after a random time, `--kills` times in all (at start, amid
steps, amid checkpoints, whatever it hits; on to OUT/killed-2 should it get to its end), and lets
every one finish. Compares weights, optimizer and log bit by
bit; exit 1 if anything differs. Not collected by pytest: it takes minutes. Options after the known
ones go to tools/pretrain.py.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch

from pretrain import folder
from pretrain.checkpoint import read_encoder, read_state

TOOL = Path(__file__).resolve().parent.parent / "tools" / "pretrain.py"


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-seed", type=int, default=0, help="of the random moments")
    return parser.parse_known_args()


def start(options: argparse.Namespace, rest: list[str], name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(TOOL), options.recipe, "--data", options.data, "--resume"]
    out = options.out / name
    return subprocess.Popen([*command, "--out", str(out), *rest], stdout=subprocess.DEVNULL)


def kill_often(options: argparse.Namespace, rest: list[str], whole_s: float) -> list[str]:
    """Kill `kills` times; the folders used, a new one whenever a run got to its end."""
    draw = random.Random(options.kill_seed)
    names = ["killed-1"]
    killed = 0
    while killed < options.kills:
        state = options.out / names[-1] / folder.STATE
        before = state.stat().st_mtime_ns if state.is_file() else 0
        process = start(options, rest, names[-1])
        # half the time wait for a checkpoint first: else start-up would take every kill
        waited = killed % 2 == 0
        while waited and process.poll() is None:
            if state.is_file() and state.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        try:
            process.wait(draw.uniform(0, whole_s / (20 if waited else 3)))
            names.append(f"killed-{len(names) + 1}")
            continue
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        killed += 1
        done = read_state(state).step if state.is_file() else 0
        print(f"kill {killed}, {names[-1]}: the last checkpoint is of step {done}", flush=True)
    return names


def log_lines(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / folder.LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def equal(one: object, other: object) -> bool:
    """Bit for bit, through nested containers."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def compare(one: Path, other: Path) -> dict[str, bool]:
    first, second = read_state(one / folder.STATE), read_state(other / folder.STATE)
    encoders = [read_encoder(out / folder.ENCODER)[0] for out in (one, other)]
    return {
        "weights": equal(first.method, second.method),
        "optimizer": equal(first.optimizer, second.optimizer),
        "encoder file": equal(*encoders),
        "log": log_lines(one) == log_lines(other),
    }


def main() -> int:
    options, rest = parse()
    began = time.monotonic()
    if start(options, rest, "whole").wait() != 0:
        return 2
    whole_s = time.monotonic() - began
    print(f"the unbroken run took {whole_s:.0f} s")
    different = 0
    for name in kill_often(options, rest, whole_s):
        if start(options, rest, name).wait() != 0:
            return 2
        found = compare(options.out / "whole", options.out / name)
        different += not all(found.values())
        shown = ", ".join(f"{k} {'identical' if v else 'DIFFERENT'}" for k, v in found.items())
        print(f"{name}: {shown}")
    return min(different, 1)


if __name__ == "__main__":
    sys.exit(main())
