"""Measure speed.

    python tools/benchmark.py NAME [--json FILE]

Two sides take turns within one run, so that a busy machine slows both; ratios are reported. Each
benchmark has its own options (--help).
"""

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not tools/pretrain.py

BENCHMARKS = {
    "pretrain": "whole pretraining steps: visible patches, dense-masked, unmasked",
    "detection": "Mask R-CNN: our backbones beside Detectron2's own",
    "segmentation": "UperNet: our BEiT, ConvNeXt or ResNet beside OpenMMLab's own",
    "data": "pretraining data and COCO's annotations at full size: start, memory, images/s",
    "table": "the table of 10,000 records: seconds from the command to the table",
    "coco-eval": "COCO evaluation: faster-coco-eval beside pycocotools",
}


def main(words: list[str]) -> int:
    """Run the benchmark that the first word names; return 0, or 2 for an unknown name."""
    name = words[0] if words else "--help"
    if name not in BENCHMARKS:
        rows = "\n".join(f"  {key:14}{text}" for key, text in BENCHMARKS.items())
        print(f"{__doc__}\n{rows}", file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    if "--threads" in words[:-1]:  # before the libraries start their pools
        os.environ["OMP_NUM_THREADS"] = words[words.index("--threads") + 1]
    module = importlib.import_module(f"tools.benchmarks.{name.replace('-', '_')}")
    arguments = parse(name, module, words[1:])
    figures = module.run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def parse(name: str, module: Any, words: list[str]) -> Any:
    """Return the module's `Arguments` with --json beside them."""
    import tyro  # here, since the processes that `data` starts and times import this file as well

    @dataclass(frozen=True)
    class Arguments(module.Arguments):
        """The command line of one benchmark."""

        json: Path | None = None
        """Write the figures here as well."""

    prog = f"tools/benchmark.py {name}"
    return tyro.cli(Arguments, args=words, prog=prog, description=module.__doc__)


if __name__ == "__main__":
    from pretrain.run.stop import exit_status

    sys.exit(exit_status(lambda: main(sys.argv[1:])))
