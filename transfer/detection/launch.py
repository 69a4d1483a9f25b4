"""From the command line to `run` on every process: alone, Detectron2's launch, or torchrun."""

import argparse
import sys

import torch
from detectron2.engine import launch as spawn
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from transfer.detection.config import load_config
from transfer.detection.estimate import dry_run
from transfer.detection.processes import join_torchrun, started_by_torchrun
from transfer.detection.run import eval_only, run
from transfer.detection.trainer import NotFiniteError, Stopped

EXPECTED = (ValueError, FileNotFoundError, FileExistsError, NotFiniteError)  # a sentence says it


def launch(arguments: argparse.Namespace) -> int:
    """Run what the command line asks for; returns the exit status."""
    try:
        if started_by_torchrun():
            join_torchrun()
            return _work(arguments)
        world = arguments.num_gpus * arguments.num_machines
        if world > 1 and torch.cuda.device_count() < arguments.num_gpus:
            raise ValueError(
                f"--num-gpus {arguments.num_gpus}: this machine has {torch.cuda.device_count()} "
                "GPUs; processes on a CPU are started with torchrun"
            )
        if world == 1:
            return _work(arguments)
        spawn(
            _work_or_exit, arguments.num_gpus, num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank, dist_url=arguments.dist_url, args=(arguments,),
        )  # fmt: skip
        return 0
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _work(arguments: argparse.Namespace) -> int:
    """One process' part; user errors become a sentence and status 2."""
    for name in ("detectron2", "transfer"):
        setup_logger(name=name, distributed_rank=comm.get_rank())
    try:
        config = load_config(
            arguments.config_file, arguments.overrides, training=not arguments.eval_only
        )
        if arguments.dry_run:
            print(*dry_run(config), sep="\n")
            return 0
        if arguments.eval_only:
            metrics = eval_only(config)
            _print_metrics(metrics)
            return 0
        result = run(config, resume=arguments.resume)
        if result is not None:
            _print_metrics(result.metrics)
            print(f"record: {config.output_dir}/result.json")
        return 0
    except Stopped as stopped:
        return int(stopped.code or 0)
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _work_or_exit(arguments: argparse.Namespace) -> None:
    status = _work(arguments)
    if status:
        sys.exit(status)


def _print_metrics(metrics: dict[str, float]) -> None:
    if metrics:
        print("  ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
