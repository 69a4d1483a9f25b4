"""Recompute golden cases of the official code and print how far off each quantity is.

    python tools/check_golden.py tests/golden/* [--sparse patches|dense] [--device cuda]

Exits 1 if an error passes the case's tolerance (at most 1e-4), 2 if a folder cannot be checked.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from golden import Check, check_case, kind_of, read_case
from rich.console import Console
from rich.table import Table

from pretrain.run.stop import exit_status

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Golden cases; files among them are passed over."""
    sparse: Literal["patches", "dense"] = "patches"
    """How convnets compute on visible patches."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the computation."""
    device: str = "cpu"
    """Where it runs."""


def main(args: Arguments) -> int:
    """Check every case; return 1 if a quantity exceeds its tolerance, else 0."""
    folders = [f for f in args.folders if f.is_dir() or not f.is_file()]
    if not folders:
        raise ValueError("give the folders of golden cases, not files: tests/golden/*/")
    console = Console(width=140)
    failed: list[str] = []
    for folder in folders:
        try:
            case = read_case(
                folder, sparse=args.sparse, dtype=DTYPES[args.dtype], device=args.device
            )
            checks = check_case(case)
            console.print(_table(f"{folder.name} ({kind_of(case)}, {args.sparse})", checks))
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder}: {error}") from error
        failed += [f"{folder.name}: {c.name} off by {c.error:.1e}" for c in checks if not c.passed]
    for line in failed:
        print(f"FAILED {line}")
    print(f"{len(folders)} cases, {len(failed)} quantities past their tolerance")
    return 1 if failed else 0


def _table(title: str, checks: list[Check]) -> Table:
    table = Table("quantity", "largest relative error", "tolerance", "", title=title)
    for check in checks:
        verdict = "ok" if check.passed else "[red]FAILED"
        verdict += f" ({check.note})" if check.note else ""
        table.add_row(check.name, f"{check.error:.1e}", f"{check.tolerance:.0e}", verdict)
    return table


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
