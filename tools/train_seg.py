"""Train and evaluate a segmentation config; ends in WORK_DIR/result.json.

python tools/train_seg.py configs/segmentation/NAME.py --work-dir DIR --cfg-options weights=FILE
torchrun --nproc-per-node 8 tools/train_seg.py configs/segmentation/NAME.py --work-dir DIR
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transfer.segmentation.run_folder import folder_state

STOPPED = 128 + 15  # as a shell reports a process that SIGTERM ended


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--work-dir", type=Path, help="default: outputs/segmentation/NAME")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --work-dir")
    parser.add_argument("--eval-only", action="store_true", help="evaluate WORK_DIR/last.pth")
    parser.add_argument(
        "--launcher", choices=("none", "pytorch", "slurm"), help="default: torchrun's"
    )
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    return parser.parse_args(arguments)


def import_quietly() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """MMSegmentation prints and warns about optional parts as it is imported and built."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    with contextlib.redirect_stdout(io.StringIO()):
        from transfer.segmentation.config import load_config
        from transfer.segmentation.train import run
    return load_config, run


def main() -> int:
    """Exit status: 0 done, 2 an error that the user can mend, 143 stopped by SIGTERM."""
    args = parse_arguments()
    work_dir = args.work_dir or Path("outputs/segmentation") / args.config.stem
    launcher = args.launcher or (
        "pytorch" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "none"
    )
    first = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
    fresh = not work_dir.exists()
    try:
        if (
            first
            and folder_state(work_dir, resume=args.resume, eval_only=args.eval_only) == "finished"
        ):
            print(f"{work_dir} holds a finished run: nothing to do")
            return 0
        load_config, run = import_quietly()
        cfg = load_config(args.config, args.cfg_options)
        result = run(cfg, work_dir, resume=args.resume, eval_only=args.eval_only, launcher=launcher)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        if fresh and first and not isinstance(error, FloatingPointError):
            shutil.rmtree(work_dir, ignore_errors=True)  # made by this call, and holds no state
        return 2
    if result is None:
        print(f"stopped by SIGTERM; go on with --resume --work-dir {work_dir}")
        return STOPPED
    if first:
        figures = "  ".join(f"{name} {value:.2f}" for name, value in result.metrics.items())
        print(f"{result.backbone} ({result.method}): {figures}; {work_dir / 'result.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
