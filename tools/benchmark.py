"""Measure speed.

    python tools/benchmark.py NAME [--json FILE]

Two sides take turns within one run, so that a busy machine slows both; ratios are reported. Each
benchmark has its own options (--help).
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not tools/pretrain.py

BENCHMARKS = {
    "pretrain": "whole pretraining steps: visible patches, dense-masked, unmasked",
    "detection": "Mask R-CNN: our backbones beside Detectron2's own",
    "segmentation": "UperNet: our BEiT, ConvNeXt or ResNet beside OpenMMLab's own",
    "data": "pretraining data and COCO's annotations at full size: start, memory, images/s",
    "table": "the table of 10,000 records: seconds from the command to the table",
    "coco-eval": "COCO evaluation: faster-coco-eval beside pycocotools",
}


def main() -> int:
    """Run a benchmark; return 0, or 2 for an unknown name."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in BENCHMARKS:
        rows = "\n".join(f"  {key:14}{text}" for key, text in BENCHMARKS.items())
        print(f"{__doc__}\n{rows}", file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    if "--threads" in sys.argv:  # before the libraries start their pools
        os.environ["OMP_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]
    module = importlib.import_module(f"tools.benchmarks.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"tools/benchmark.py {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    module.add_arguments(parser)
    arguments = parser.parse_args(sys.argv[2:])
    figures = module.run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    from pretrain.run.stop import exit_status

    sys.exit(exit_status(main))
