"""The output folder of a run. No heavy import: a finished run is recognised in a moment."""

from pathlib import Path
from typing import Literal

RECORD = "result.json"
LAST, BEST = "last.pth", "best.pth"


def folder_state(folder: Path, *, resume: bool, eval_only: bool) -> Literal["finished", "open"]:
    """Whether there is anything to do; ValueError where the folder holds something else's files."""
    if eval_only:
        if not (folder / LAST).is_file():
            raise FileNotFoundError(f"--eval-only: there is no {LAST} in {folder}")
        return "open"
    if resume:
        return "finished" if (folder / RECORD).is_file() else "open"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} is not empty: give another --work-dir, or --resume to continue the run there"
        )
    return "open"
