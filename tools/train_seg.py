"""Train and evaluate a segmentation config; ends in WORK_DIR/result.json.

python tools/train_seg.py configs/segmentation/NAME.py --work-dir DIR --cfg-options weights=FILE
torchrun --nproc-per-node 8 tools/train_seg.py configs/segmentation/NAME.py --work-dir DIR
srun --ntasks-per-node 8 ... python tools/train_seg.py configs/segmentation/NAME.py --work-dir DIR

Every setting with type, range and source: configs/README.md.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from pretrain.run.folder import RECORD, STATE, RunFolder
from pretrain.run.processes import is_first_process, log_to_stdout
from pretrain.run.stop import exit_status


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", type=Path)
    add("--work-dir", type=Path, help="default: outputs/segmentation/NAME")
    add("--resume", action="store_true", help="go on with the run in --work-dir")
    add(
        "--eval-only",
        action="store_true",
        help="evaluate the run in --work-dir; other settings: evals/HASH.json",
    )
    add("--checkpoint", type=Path, help="with --eval-only: a state; default: WORK_DIR/state.pt")
    add("--score", action="store_true", help="figures of the label maps in WORK_DIR/predictions")
    add("--dry-run", action="store_true", help="what the run would cost; starts nothing")
    add(
        "--launcher",
        choices=("auto", "none", "pytorch", "slurm"),
        default="auto",
        help="of several processes; auto: torchrun or srun where one of them started this",
    )
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    args.work_dir = args.work_dir or Path("outputs/segmentation") / args.config.stem
    return args


def nothing_to_do(args: argparse.Namespace) -> bool:
    """Return whether the run is finished; refuse a folder in use, before anything is imported."""
    if args.score or args.dry_run:
        return False
    if args.eval_only:
        state = args.checkpoint or args.work_dir / STATE
        if not state.is_file():
            raise FileNotFoundError(f"--eval-only: there is no {state}")
        return False
    folder = RunFolder(args.work_dir, RECORD)
    if is_first_process():
        folder.require_free(args.resume)
    return args.resume and folder.finished


def line(metrics: Mapping[str, float]) -> str:
    """Return figures in one line."""
    return "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())


def execute() -> None:
    """Do what the command line says."""
    args = parse_arguments()
    log_to_stdout()
    if nothing_to_do(args):
        print(f"{args.work_dir} holds a finished run: nothing to do")
        return
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    from transfer.segmentation import config, estimate
    from transfer.segmentation import run as runs
    from transfer.weights.releases import nothing_fetched

    cfg = config.load_config(args.config, args.cfg_options)
    if args.dry_run:
        with nothing_fetched():
            print(estimate.estimate(config.fill_in(cfg)))
    elif args.score:
        print(line(runs.score(cfg, args.work_dir)))
    elif args.eval_only:
        more = {"checkpoint": args.checkpoint, "launcher": args.launcher}
        metrics = runs.evaluate(cfg, args.work_dir, **more)
        if is_first_process():
            print(line(metrics))
    else:
        result = runs.run(cfg, args.work_dir, resume=args.resume, launcher=args.launcher)
        if result and is_first_process():
            named = f"{result.backbone} ({result.method})"
            print(f"{named}: {line(result.metrics)}; {args.work_dir}")


if __name__ == "__main__":
    sys.exit(exit_status(execute))
