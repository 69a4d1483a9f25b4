"""Train and evaluate a detector.

    python tools/train_net.py --config-file configs/detection/NAME.py [--num-gpus N] [--resume]
        [--eval-only] [--dry-run] [key=value ...]

`weights=FILE` starts from a pretrained encoder, `weights=none` from scratch. The run ends in
OUTPUT_DIR/result.json; --resume continues an interrupted run and leaves a finished one alone.
Every setting with type, range and source: configs/README.md.
"""

import argparse
import sys
from pathlib import Path

from pretrain.run.folder import RECORD, is_whole
from pretrain.run.stop import exit_status


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; everything after the options is key=value."""
    usage, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=usage, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, type=Path)
    parser.add_argument("--num-gpus", type=int, default=1, help="on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="auto", help="of the first machine, with several")
    parser.add_argument("--resume", action="store_true", help="continue in the output folder")
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="evaluate a detector; other settings: evals/HASH.json",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what the run would cost")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser.parse_intermixed_args(arguments)


def run() -> None:
    """Do what the command line asks for."""
    arguments = parse_arguments()
    if arguments.resume and _finished(arguments.overrides):
        return
    from transfer.detection.launch import launch

    launch(arguments)


def _finished(overrides: list[str]) -> bool:
    """Return whether the output folder holds a record, without the heavy imports."""
    named = [o.partition("=")[2] for o in overrides if o.startswith("output_dir=")]
    if not named or not is_whole(Path(named[-1]) / RECORD):
        return False
    print(f"finished already: {named[-1]}")
    return True


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
