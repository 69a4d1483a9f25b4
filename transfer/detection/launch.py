"""From the command line to what it asks for, on every process of the run."""

import argparse
import os
import sys
from pathlib import Path

from detectron2.utils.logger import setup_logger

from pretrain.run.folder import RECORD
from pretrain.run.processes import is_first_process
from transfer.detection.config import load_config
from transfer.detection.estimate import dry_run
from transfer.detection.processes import torchrun_command
from transfer.detection.run import eval_only, run
from transfer.weights.releases import nothing_fetched

LOGGERS = ("detectron2", "pretrain", "transfer")


def launch(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for, on every process that it asks for.

    With --num-gpus torchrun takes the place of this process: it passes signals on.
    Raises ValueError or FileNotFoundError for what does not fit, NotFiniteError, and Stopped.
    """
    command = torchrun_command(arguments, Path(sys.argv[0]).resolve(), sys.argv[1:])
    if command is not None:
        os.execv(command[0], command)
    for name in LOGGERS:
        setup_logger(name=name, distributed_rank=0 if is_first_process() else 1)
    config = load_config(
        arguments.config_file, arguments.overrides, training=not arguments.eval_only
    )
    if arguments.dry_run:
        with nothing_fetched():
            lines = dry_run(config)
        if is_first_process():
            print(*lines, sep="\n")
    elif arguments.eval_only:
        _print_metrics(eval_only(config))
    else:
        result = run(config, resume=arguments.resume)
        if result is not None:
            _print_metrics(result.metrics)
            print(f"record: {config.output_dir}/{RECORD}")


def _print_metrics(metrics: dict[str, float]) -> None:
    if metrics:
        print("  ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
