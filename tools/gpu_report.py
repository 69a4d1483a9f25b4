"""What only a GPU can show, in one command of at most 20 minutes: make gpu.

    python tools/gpu_report.py [--device cuda] [--out results/gpu] [--only goldens ...]
    python tools/gpu_report.py --device cpu --tiny --out /tmp/gpu     shows that every case runs

The official codes' golden cases, bfloat16 gradients against float32, speed and memory of
pretraining, and 50 training steps of Mask R-CNN and UperNet beside the frameworks' own backbones.
Needs no data and no weights. Every section is a process of its own: one that fails or takes too
long is recorded, and the rest goes on. Writes report.json and report.md after every section.
Exits 1 if a case failed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tabulate import tabulate

from pretrain.files.write import atomic_write
from pretrain.run.provenance import device_name, suite_commit, versions
from pretrain.run.stop import exit_status
from tools.benchmarks.gpu import SECTIONS, Scale

Section = dict[str, Any]  # minutes, cases, error
SectionName = tyro.extras.literal_type_from_choices(SECTIONS)
SECTION = tyro.conf.arg(metavar="SECTION")  # ten names would fill the page
MINUTES = 20


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    device: str = "cuda"
    """Where it runs."""
    tiny: bool = False
    """Tiny nets: to see that the cases run."""
    out: Path = Path("results/gpu")
    """Folder for report.json and report.md."""
    only: Annotated[tuple[SectionName, ...] | None, SECTION] = None
    """These sections; default: all."""
    minutes: float = MINUTES
    """Time for all sections."""
    batch: int = 64
    """Images of a pretraining step."""
    section: Annotated[SectionName | None, SECTION] = None
    """This section in this process, its rows into the file --out: how the tool starts each."""


def main(args: Arguments) -> int:
    """Return 1 if a case failed, 0 otherwise."""
    if args.section:
        return run_section(args)
    if args.only == ():
        raise ValueError(f"--only names no section: give some of {', '.join(SECTIONS)}")
    report = begin(args)
    deadline = time.monotonic() + 60 * args.minutes
    names = args.only or list(SECTIONS)
    for number, name in enumerate(names, start=1):
        left = deadline - time.monotonic()
        print(f"[{number}/{len(names)}] {name}, {left / 60:.0f} minutes left", flush=True)
        limit = min(left, 60 * SECTIONS[name][0] * args.minutes / MINUTES)
        report["sections"][name] = start_section(name, limit, args)
        write(report, args.out)
    failures = [line for name, section in report["sections"].items() for line in failed(section)]
    print(f"{args.out / 'report.md'}: {len(failures)} failures")
    return int(bool(failures))


def begin(args: Arguments) -> dict[str, Any]:
    """Return a report without sections; ValueError if the device is not there."""
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no CUDA device; --device cpu --tiny shows that the cases run")
    return {
        "device": device_name(device),
        "tiny": args.tiny,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": suite_commit(),
        "versions": {**versions(), "cuda": torch.version.cuda},
        "sections": {},
    }


def start_section(name: str, limit_s: float, args: Arguments) -> Section:
    """Run a section as a process of its own, at most `limit_s` seconds; return what it found."""
    if limit_s <= 0:
        return {"minutes": 0.0, "cases": {}, "error": "not started: the time was up"}
    rows = args.out / f"{name.replace(' ', '_')}.jsonl"
    args.out.mkdir(parents=True, exist_ok=True)
    rows.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--section", name, "--device", args.device]
    command += ["--out", str(rows), "--batch", str(args.batch), *["--tiny"] * args.tiny]
    start, error = time.monotonic(), None
    try:
        ended = subprocess.run(command, timeout=limit_s, check=False)
        if ended.returncode:
            error = f"the process ended with status {ended.returncode}"
    except subprocess.TimeoutExpired:
        error = f"stopped after {limit_s / 60:.1f} minutes"
    lines = rows.read_text().splitlines() if rows.is_file() else []
    rows.unlink(missing_ok=True)
    cases = {row.pop("case"): row for row in map(json.loads, lines)}
    return {"minutes": (time.monotonic() - start) / 60, "cases": cases, "error": error}


def run_section(args: Arguments) -> int:
    """Run the cases of one section and append a line of JSON for each to `args.out`."""
    scale = Scale(torch.device(args.device), args.tiny, args.batch)
    for name, call in SECTIONS[args.section][1](scale):
        print(f"    {name}", flush=True)
        try:
            figures = call()
        except Exception as error:  # recorded; the other cases go on
            figures = {"error": f"{type(error).__name__}: {error}".strip().split("\n")[0]}
            print(f"    failed: {figures['error']}", flush=True)
        with args.out.open("a") as file:
            file.write(json.dumps({"case": name, **figures}) + "\n")
        torch._dynamo.reset()
        if scale.device.type == "cuda":
            torch.cuda.synchronize()  # an error that the device keeps ends the section here
            torch.cuda.empty_cache()
    return 0


def failed(section: Section) -> list[str]:
    """Return what went wrong in a section, a line each; golden cases past their tolerance too."""
    lines = [] if section["error"] is None else [section["error"]]
    for name, figures in section["cases"].items():
        if "error" in figures:
            lines.append(f"{name}: {figures['error']}")
        elif figures.get("past tolerance"):
            lines.append(f"{name}: {figures['past tolerance']} quantities past their tolerance")
    return lines


def write(report: dict[str, Any], out: Path) -> None:
    """Write report.json, and report.md from it."""
    text = markdown(report)
    atomic_write(out / "report.json", lambda p: p.write_text(json.dumps(report, indent=1) + "\n"))
    atomic_write(out / "report.md", lambda p: p.write_text(text))


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown: a table per section, and what failed."""
    versions_of = report["versions"]
    lines = [f"# GPU report: {report['device']}", ""]
    if report["tiny"]:
        lines += ["Tiny nets, to show that the cases run: the figures mean nothing.", ""]
    lines += [
        f"{report['made']}, commit {report['commit']}, torch {versions_of['torch']}, CUDA "
        f"{versions_of['cuda']}. Detection and segmentation train in bfloat16.",
        "",
    ]
    for name, section in report["sections"].items():
        lines += [f"## {name}", "", table(section["cases"]), ""]
        lines += [f"- failed: {line}" for line in failed(section)]
        lines += [f"- {section['minutes']:.1f} minutes", ""]
    return "\n".join(lines)


def table(cases: dict[str, Section]) -> str:
    """Return a Markdown table of the cases' numbers and words; nested figures are in the JSON."""
    columns = list(dict.fromkeys(c for figures in cases.values() for c in scalars(figures)))
    rows = [[name, *(cell(figures.get(c)) for c in columns)] for name, figures in cases.items()]
    return tabulate(rows, ["case", *columns], tablefmt="github", disable_numparse=True)


def scalars(figures: Section) -> Iterable[str]:
    """Return the names of the figures that a table can show."""
    return (name for name, value in figures.items() if not isinstance(value, dict | list))


def cell(value: object) -> str:
    """Return a number with four digits, a word as it is."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
