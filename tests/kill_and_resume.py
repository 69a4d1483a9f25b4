"""Kill a pretraining run at random moments; it must end as one that was never killed.

    python tests/kill_and_resume.py RECIPE --data DIR --out DIR [--kills 20] [--option ...]

Runs the recipe unbroken into OUT/whole. Then runs it into OUT/killed with --resume, over and over,
each time killed with SIGKILL after a random time, `--kills` times in all (at start, amid steps,
amid checkpoints, whatever it hits), and lets it finish. Compares weights, optimizer and log bit by
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


def kill_often(options: argparse.Namespace, rest: list[str], whole_s: float) -> None:
    """Kill `kills` times; moments are drawn so that the run gets on between them."""
    draw = random.Random(options.kill_seed)
    state = options.out / "killed" / folder.STATE
    for kill in range(options.kills):
        before = state.stat().st_mtime_ns if state.is_file() else 0
        process = start(options, rest, "killed")
        # half the time wait for a checkpoint first: else start-up would take every kill
        waited = kill % 2 == 0
        while waited and process.poll() is None:
            if state.is_file() and state.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        try:
            process.wait(draw.uniform(0, whole_s / options.kills if waited else whole_s / 3))
            print(f"kill {kill + 1}: the run had ended by itself, status {process.returncode}")
            continue
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        done = read_state(state).step if state.is_file() else 0
        print(f"kill {kill + 1}: the last checkpoint is of step {done}", flush=True)


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
    kill_often(options, rest, whole_s)
    if start(options, rest, "killed").wait() != 0:
        return 1
    found = compare(options.out / "whole", options.out / "killed")
    for name, same in found.items():
        print(f"{name}: {'identical' if same else 'DIFFERENT'}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
