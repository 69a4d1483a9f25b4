"""Fine-tune an encoder on labelled images, end to end.

    python tools/finetune.py configs/classification/NAME.py --data DIR weights=FILE --out DIR
        [--resume] [--eval-only] [--dry-run] [key=value ...]

DIR holds train/CLASS/IMAGE and val/CLASS/IMAGE, or another form of docs/classification.md.
`weights=none arch=NAME` trains from scratch. The run ends in OUT/result.json and
OUT/encoder.safetensors, which detection and segmentation start from; --resume continues an
interrupted run and leaves a finished one alone. Several devices: torchrun --nproc-per-node N.
Every setting with type, range and source: configs/README.md.
"""

import argparse
import sys
from pathlib import Path

from pretrain.run.folder import RECORD, is_whole
from pretrain.run.processes import is_first_process, log_to_stdout
from pretrain.run.stop import exit_status


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; everything after the options is key=value."""
    usage, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=usage, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", required=True, type=given_path, help="the labelled images")
    parser.add_argument("--out", required=True, type=given_path, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue in the output folder")
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="evaluate the trained classifier; other settings: evals/HASH.json",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what the run would cost")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser.parse_intermixed_args(arguments)


def given_path(text: str) -> Path:
    """Return the path of an option; an empty one is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty (is a variable unset?)")
    return Path(text)


def run(arguments: list[str] | None = None) -> None:
    """Do what the command line asks for."""
    options = parse_arguments(arguments)
    if options.resume and is_whole(options.out / RECORD):
        print(f"finished already: {options.out}")
        return
    log_to_stdout()
    from transfer.classification import run as finetuning  # after what needs no torch
    from transfer.classification.config import load_config
    from transfer.classification.estimate import dry_run
    from transfer.weights.releases import nothing_fetched

    config = load_config(options.config, options.overrides)
    places = (config, options.data, options.out)
    if options.dry_run:
        with nothing_fetched():
            lines = dry_run(*places, file=options.config)
        if is_first_process():
            print(*lines, sep="\n")
        return
    if options.eval_only:
        accuracy = finetuning.eval_only(*places, file=options.config)
    else:
        accuracy = finetuning.run(*places, file=options.config, resume=options.resume)
    if accuracy is not None and is_first_process():
        print("  ".join(f"{name} {value:.2f}" for name, value in accuracy.metrics.items()))


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
