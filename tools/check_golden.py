"""Recompute golden cases of the official code and print how far off each quantity is.

    python tools/check_golden.py tests/golden/* [--sparse patches|dense]

Exits 1 if an error passes the case's tolerance (at most 1e-4), 2 if a folder cannot be checked.
"""

import argparse
import sys
from pathlib import Path

import torch
from golden import Check, check_case, kind_of, read_case
from rich.console import Console
from rich.table import Table

from pretrain.run.stop import exit_status

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def run() -> int:
    """Check every case; return 1 if a quantity exceeds its tolerance, else 0."""
    args = _arguments()
    console = Console(width=140)
    failed: list[str] = []
    for folder in args.folders:
        try:
            case = read_case(folder, sparse=args.sparse, dtype=DTYPES[args.dtype])
            checks = check_case(case)
            console.print(_table(f"{folder.name} ({kind_of(case)}, {args.sparse})", checks))
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder}: {error}") from error
        failed += [f"{folder.name}: {c.name} off by {c.error:.1e}" for c in checks if not c.passed]
    for line in failed:
        print(f"FAILED {line}")
    print(f"{len(args.folders)} cases, {len(failed)} quantities past their tolerance")
    return 1 if failed else 0


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="golden cases")
    parser.add_argument("--sparse", choices=["patches", "dense"], default="patches")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float64")
    args = parser.parse_args()
    args.folders = [f for f in args.folders if f.is_dir() or not f.is_file()]
    if not args.folders:
        parser.error("these are files: give the folders of golden cases, as tests/golden/*")
    return args


def _table(title: str, checks: list[Check]) -> Table:
    table = Table("quantity", "largest relative error", "tolerance", "", title=title)
    for check in checks:
        verdict = "ok" if check.passed else "[red]FAILED"
        verdict += f" ({check.note})" if check.note else ""
        table.add_row(check.name, f"{check.error:.1e}", f"{check.tolerance:.0e}", verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
