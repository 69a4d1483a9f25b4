"""Kill a training at random moments; it must end as one that was never killed.

    python tests/kill_and_resume.py --out DIR [--kills 20] -- TOOL ARGUMENT ... {out} ...

TOOL is a training tool (pretrain, finetune, train_net, train_seg) with its arguments; {out} stands
for the run's folder. Runs it unbroken into DIR/whole. Then runs it into DIR/killed-1 with --resume,
over and over, each time killed with SIGKILL together with its data workers: soon after it wrote a
checkpoint, in the middle of writing a file, or anywhen from start-up on; into DIR/killed-2 once
killed-1 got to its end. Lets every folder finish and compares all files with those of DIR/whole:
tensors bit by bit, logs line by line, but for what tells the time. Exit 1 if anything differs, a
file is missing, or one is left over. Not collected by pytest: it takes minutes.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STATES = ("state.pt",)  # the training state of every tool
UNFINISHED = ".*.tmp"  # files that pretrain.files.write.atomic_write is at
MOMENTS = ("saved", "any", "writing", "any")  # of the kills, in turn
# What depends on the clock, or on commits to this repository while the test runs.
TIMES = {
    "time",
    "data_time",
    "eta_seconds",
    "rank_data_time",
    "seconds",
    "train_seconds",
    "images_per_second",
    "data_share",
    "hours",
    "evaluated_at",
    "peak_memory_mib",
    "commit",
    "dirty",
    "log_bytes",
    "log",  # of a training state: lengths of logs that tell times
}
TIMED_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*?)(  \[.*\])?$")  # of a run's log.txt


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-seed", type=int, default=0, help="of the random moments")
    parser.add_argument("command", nargs="+", metavar="-- TOOL ARGUMENT ...")
    options = parser.parse_args()
    if not any("{out}" in argument for argument in options.command):
        parser.error("no {out} among the arguments of the tool")
    return options


def start(command: list[str], out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The tool in a process group of its own; what it says goes to OUT.log."""
    arguments = [argument.replace("{out}", str(out)) for argument in command]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments, *more], stdout=log, stderr=log, start_new_session=True
        )


def finish(command: list[str], out: Path, *more: str) -> None:
    if start(command, out, *more).wait() != 0:
        sys.exit(f"error: the run into {out} failed; see {out.with_suffix('.log')}")


def saves(out: Path) -> list[tuple[Path, int]]:
    """The training states below a run's folder, and when they were written."""
    found = []
    for path in (path for name in STATES for path in out.rglob(name)):
        with contextlib.suppress(FileNotFoundError):  # a tokenizer's state goes with its training
            found.append((path, path.stat().st_mtime_ns))
    return found


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not happened():
        time.sleep(0.001)


def kill_once(
    command: list[str], out: Path, moment: str, draw: random.Random, whole_s: float
) -> bool:
    """Resume the run and kill it; False if it got to its end before."""
    before, left = saves(out), set(out.rglob(UNFINISHED))
    process = start(command, out, "--resume")
    longest = 0.0  # seconds of random delay
    if moment == "saved":
        wait_for(lambda: saves(out) != before, process)
        longest = whole_s / 40
    elif moment == "writing":
        wait_for(lambda: saves(out) != before, process)
        wait_for(lambda: bool(set(out.rglob(UNFINISHED)) - left), process)
    else:
        longest = whole_s / 2
    try:
        status = process.wait(draw.uniform(0, longest))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if status != 0:
        sys.exit(f"error: the run into {out} failed; see {out.with_suffix('.log')}")
    return False


def kill_often(options: argparse.Namespace, whole_s: float) -> list[Path]:
    """Kill `kills` times; the folders used, a new one whenever a run got to its end."""
    draw = random.Random(options.kill_seed)
    folders, killed, tried = [options.out / "killed-1"], 0, 0
    while killed < options.kills:
        out, moment = folders[-1], MOMENTS[tried % len(MOMENTS)]
        tried += 1
        if kill_once(options.command, out, moment, draw, whole_s):
            killed += 1
            caught = len(list(out.rglob(UNFINISHED)))
            steps = [torch.load(path, weights_only=True)["values"] for path, _ in saves(out)]
            done = [s["step"] if "step" in s else s["meta"]["iter"] for s in steps]
            print(
                f"kill {killed}, {out.name}, {moment}: saved step {done}, {caught} half-written",
                flush=True,
            )
        else:
            folders.append(options.out / f"killed-{len(folders) + 1}")
    return folders


def content(path: Path, out: Path) -> Any:
    """What a file holds, as nested containers; paths into `out` as "OUT"."""
    if path.suffix in (".pt", ".pth"):
        held = torch.load(path, map_location="cpu", weights_only=True)
        kept = re.fullmatch(r"state(-\d+)?", path.stem)  # a training state, or a former one
        held = held["values"] if kept else held  # without its digest
        name = str(out)  # in the command that began the run
        return {
            k: as_json(v.replace(name, "OUT")) if isinstance(v, str) else v for k, v in held.items()
        }
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = {k: as_json(v) for k, v in (file.metadata() or {}).items()}
        return {**tensors, "header": header}
    if path.name == "log.txt":
        matches = map(TIMED_LINE.match, path.read_text().replace(str(out), "OUT").splitlines())
        return [match[1] for match in matches if match]
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text().replace(str(out), "OUT")
        if path.suffix == ".jsonl" or (path.name == "metrics.json" and path.parent == out):
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text)
    return path.read_bytes()


def as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder: tag -> (step, value)."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def contents(out: Path) -> dict[str, Any]:
    """Everything a run left behind, by its path below `out`."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        if path.name.startswith("events.out.tfevents"):
            found[str(path.parent.relative_to(out) / "tensorboard curves")] = path.parent
        else:
            found[str(path.relative_to(out))] = content(path, out)
    return {k: curves(v) if isinstance(v, Path) else v for k, v in found.items()}


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two nested containers are not the same, bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        if not same or one.numpy().tobytes() != other.numpy().tobytes():
            yield where
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other} - TIMES, key=str):
            if key in one and key in other:
                yield from differences(one[key], other[key], f"{where}/{key}")
            else:
                yield f"{where}/{key} (only in {'the unbroken' if key in one else 'this'} run)"
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{where} ({len(one)} entries in the unbroken run, {len(other)} in this)"
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f"{where}/{index}")
    elif type(one) is not type(other) or one != other:
        yield where


def report(whole: dict[str, Any], out: Path) -> bool:
    """Say how the run in `out` compares; True if it is the same."""
    found, same = contents(out), True
    for name in sorted({*whole, *found}):
        pair = [{name: files[name]} if name in files else {} for files in (whole, found)]
        places = list(differences(*pair))
        if places:
            same = False
            print(f"{out.name}: DIFFERENT in {len(places)} places of {name}, first {places[0]}")
    kinds = Counter(Path(name).suffix or Path(name).name for name in found)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{out.name}: {'identical' if same else 'DIFFERENT'} ({listed})", flush=True)
    return same


def main() -> int:
    options = parse()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each resume
    options.out.mkdir(parents=True)
    began = time.monotonic()
    whole = options.out / "whole"
    finish(options.command, whole)
    whole_s = time.monotonic() - began
    print(f"the unbroken run took {whole_s:.0f} s", flush=True)
    folders = kill_often(options, whole_s)
    finish(options.command, folders[-1], "--resume")
    expected = contents(whole)
    same = [report(expected, out) for out in folders if out.exists()]
    print(f"{time.monotonic() - began:.0f} s in all")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
