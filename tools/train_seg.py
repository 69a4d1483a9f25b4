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
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from transfer.segmentation.run_folder import RECORD, folder_state

STOPPED = 128 + 15  # as a shell reports a process that SIGTERM ended


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", type=Path)
    add("--work-dir", type=Path, help="default: outputs/segmentation/NAME")
    add("--resume", action="store_true", help="go on with the run in --work-dir")
    add("--eval-only", action="store_true", help="evaluate WORK_DIR/last.pth; makes no record")
    add("--score", action="store_true", help="figures of the label maps in WORK_DIR/predictions")
    add("--dry-run", action="store_true", help="what the run would cost; starts nothing")
    add("--launcher", choices=("none", "pytorch", "slurm"), help="default: torchrun's if it is")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    args.launcher = args.launcher or ("pytorch" if several else "none")
    args.work_dir = args.work_dir or Path("outputs/segmentation") / args.config.stem
    args.first = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
    return args


def import_quietly() -> tuple[ModuleType, ModuleType, ModuleType]:
    """MMSegmentation prints and warns about optional parts as it is imported and built."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    with contextlib.redirect_stdout(io.StringIO()):
        from transfer.segmentation import config, estimate
        from transfer.segmentation import run as train
    return config, estimate, train


def nothing_to_do(args: argparse.Namespace) -> bool:
    """Whether the run is finished; only the first process judges the folder's other contents."""
    if args.score or args.dry_run:
        return False
    if not args.first:
        return args.resume and (args.work_dir / RECORD).is_file()
    state = folder_state(args.work_dir, resume=args.resume, eval_only=args.eval_only)
    return state == "finished"


def line(metrics: Mapping[str, float]) -> str:
    """Figures in one line."""
    return "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())


def execute(args: argparse.Namespace) -> int:
    """Do what the command line says; raises what the user can mend."""
    config, estimate, train = import_quietly()
    cfg = config.load_config(args.config, args.cfg_options)
    if args.dry_run:
        print(estimate.estimate(config.fill_in(cfg)))
        return 0
    if args.score:
        print(line(train.score(cfg, args.work_dir)))
        return 0
    if args.eval_only:
        metrics = train.evaluate(cfg, args.work_dir, launcher=args.launcher)
        if args.first:
            print(line(metrics))
        return 0
    result = train.run(cfg, args.work_dir, resume=args.resume, launcher=args.launcher)
    if result is None:
        print(f"stopped by SIGTERM; go on with --resume --work-dir {args.work_dir}")
        return STOPPED
    if args.first:
        print(f"{result.backbone} ({result.method}): {line(result.metrics)}; {args.work_dir}")
    return 0


def main() -> int:
    """Exit status: 0 done, 2 an error that the user can mend, 143 stopped by SIGTERM."""
    args = parse_arguments()
    fresh = not args.work_dir.exists()
    try:
        if nothing_to_do(args):
            print(f"{args.work_dir} holds a finished run: nothing to do")
            return 0
        return execute(args)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        if fresh and args.first and not isinstance(error, FloatingPointError):
            shutil.rmtree(args.work_dir, ignore_errors=True)  # made just now, and holds no state
        return 2


if __name__ == "__main__":
    sys.exit(main())
