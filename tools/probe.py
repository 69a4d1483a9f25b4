"""Probe frozen features on labelled images: a linear classifier and a k-NN, in minutes.

    python tools/probe.py ENCODER --data DIR --out DIR [key=value ...]

ENCODER is a weights file of any known layout, or `none` with arch=NAME for a random encoder, the
control. DIR holds train/CLASS/IMAGE and val/CLASS/IMAGE, or one of the other forms of
docs/classification.md. The figures end in OUT/result.json.
"""

import argparse
import sys
from pathlib import Path

from pretrain.run.processes import log_to_stdout
from pretrain.run.stop import exit_status


def run(arguments: list[str] | None = None) -> None:
    """Do what the command line asks for."""
    usage, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=usage, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", help="a weights file, or none")
    parser.add_argument("--data", required=True, type=Path, help="the labelled images")
    parser.add_argument("--out", required=True, type=Path, help="folder of the record")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    log_to_stdout()
    from transfer.classification.probe import probe  # after what needs no torch
    from transfer.classification.probe_config import probing

    result = probe(options.encoder, options.data, options.out, probing(options.overrides))
    print("  ".join(f"{name} {value:.2f}" for name, value in result.metrics.items()))
    print("; ".join(result.notes))


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
