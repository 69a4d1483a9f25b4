"""From the command line to `run` on every process: alone, Detectron2's launch, or torchrun."""

import argparse
import sys

import torch
from detectron2.engine import launch as spawn
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from pretrain.run.folder import RECORD
from pretrain.run.stop import exit_status
from transfer.detection.config import load_config
from transfer.detection.estimate import dry_run
from transfer.detection.processes import join_torchrun, started_by_torchrun
from transfer.detection.run import eval_only, run


def launch(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for, on every process that it asks for.

    Raises ValueError or FileNotFoundError for what does not fit, NotFiniteError, and Stopped.
    """
    if started_by_torchrun():
        join_torchrun()
        _work(arguments)
        return
    world = arguments.num_gpus * arguments.num_machines
    if world > 1 and torch.cuda.device_count() < arguments.num_gpus:
        raise ValueError(
            f"--num-gpus {arguments.num_gpus}: this machine has {torch.cuda.device_count()} "
            "GPUs; processes on a CPU are started with torchrun"
        )
    if world == 1:
        _work(arguments)
        return
    spawn(
        _work_or_exit, arguments.num_gpus, num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank, dist_url=arguments.dist_url, args=(arguments,),
    )  # fmt: skip


def _work(arguments: argparse.Namespace) -> None:
    """Do one process's part."""
    for name in ("detectron2", "transfer"):
        setup_logger(name=name, distributed_rank=comm.get_rank())
    config = load_config(
        arguments.config_file, arguments.overrides, training=not arguments.eval_only
    )
    if arguments.dry_run:
        print(*dry_run(config), sep="\n")
        return
    if arguments.eval_only:
        _print_metrics(eval_only(config))
        return
    result = run(config, resume=arguments.resume)
    if result is not None:
        _print_metrics(result.metrics)
        print(f"record: {config.output_dir}/{RECORD}")


def _work_or_exit(arguments: argparse.Namespace) -> None:
    status = exit_status(lambda: _work(arguments))
    if status:
        sys.exit(status)


def _print_metrics(metrics: dict[str, float]) -> None:
    if metrics:
        print("  ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
