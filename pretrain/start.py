"""What happens before the first step: devices, images, tokenizer, weights to start from."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch import nn

from pretrain import folder
from pretrain.checkpoint import atomic_write, read_encoder, read_state, remove_unfinished
from pretrain.config import BeitSettings, Recipe, Run
from pretrain.data import Split
from pretrain.explain import lr_rule
from pretrain.methods import Method
from pretrain.schedule import Plan
from pretrain.sources import Images, digest, open_images, readable

log = logging.getLogger(__name__)
SHOW_PROGRESS_FROM = 10_000  # images


def launch(settings: Run) -> Fabric:
    """Fabric on one device, or on those torchrun or Slurm's srun started this process for."""
    cluster = cluster_environment()
    world = cluster.world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", world)))
    cuda = torch.cuda.is_available() and settings.device != "cpu"
    if settings.device == "cuda" and not cuda:
        raise ValueError("device=cuda, but torch sees no CUDA device")
    bf16 = cuda and torch.cuda.is_bf16_supported() if settings.precision == "auto" else None
    half = settings.precision == "bf16" or bf16
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=min(local, world),
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        plugins=[cluster],
        precision="bf16-mixed" if half else "32-true",
    )
    fabric.launch()
    if cuda:
        torch.backends.cudnn.benchmark = True  # shapes are static
    return fabric


def cluster_environment() -> ClusterEnvironment:
    """Who started this process. torchrun first: it may itself be a task of Slurm's.

    Raises ValueError where srun's tasks are not counted by node.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if not SLURMEnvironment.detect():
        return LightningEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # --ntasks instead of --ntasks-per-node
        raise ValueError(str(error)) from error


def checked_images(
    fabric: Fabric, data: Path, out: Path, resume: bool, skip_unreadable: bool
) -> Images:
    """The images, all of them readable. The first process checks; a resumed run trusts it.

    Clears what a killed process left half-written in `out`: this is the first use of the folder.
    """
    if fabric.is_global_zero:
        remove_unfinished(out)
    workers = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    images = open_images(data, workers)
    record = out / folder.DATA
    if fabric.is_global_zero and not resume:
        progress = "checking images" if len(images) > SHOW_PROGRESS_FROM else None
        good, skipped = readable(images, skip=skip_unreadable, workers=workers, progress=progress)
        for name in skipped[:10]:
            log.warning("left out, unreadable: %s", name)
        if skipped:
            log.warning("%d of %d images left out", len(skipped), len(images))
        facts = {"images": len(good), "names_sha256": digest(good), "skipped": skipped}
        atomic_write(record, lambda p: p.write_text(json.dumps(facts)))
    fabric.barrier()
    facts = json.loads(record.read_text())
    if facts["skipped"]:
        broken = set(facts["skipped"])
        images = images.subset(np.array([images.name(i) not in broken for i in range(len(images))]))
    if digest(images) != facts["names_sha256"]:
        raise ValueError(
            f"{data} holds other images than when the run in {out} began ({len(images)}, then "
            f"{facts['images']}): give back its data, or another --out"
        )
    return images


def tokenizer_file(fabric: Fabric, recipe: Recipe, images: Images, out: Path) -> Path | None:
    """BEiT's tokenizer: the recipe's, or one trained on the run's images first."""
    if not isinstance(recipe.method, BeitSettings):
        return None
    if recipe.method.tokenizer:
        return Path(recipe.method.tokenizer)
    from pretrain.train_tokenizer import ensure_tokenizer

    return ensure_tokenizer(out / folder.TOKENIZER, images, recipe, fabric)


def initialise(method: Method, path: Path) -> None:
    """Take weights, and nothing else, from an encoder file or a training state."""
    if path.suffix == ".safetensors":
        tensors, identity = read_encoder(path)
        target: Any = method.encoder
        what = f"an encoder {identity.arch} {identity.arch_args or ''}"
    else:
        tensors, target, what = read_state(path).method, method, "a training state"
    try:
        target.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds {what}, which does not fit the recipe's: {error}"
        ) from error
    log.info("weights from %s", path)


def introduce(
    recipe: Recipe, method: Method, images: Images, split: Split, length: Plan,
    resumed_at: int | None,
) -> None:  # fmt: skip
    """Say what is about to run."""
    encoder: int = sum(p.numel() for p in method.encoder.parameters())
    total = sum(p.numel() for p in method.parameters())
    log.info("%s on %s: %.2f M parameters, %.2f M with what is only for pretraining",
             recipe.method.name, recipe.arch, encoder / 1e6, total / 1e6)  # fmt: skip
    log.info("%d images; %s", len(images), split)
    log.info("learning rate %g: %s", recipe.peak_lr(), lr_rule(recipe))
    log.info("%d steps, %d an epoch, %d of warm-up",
             length.steps, length.steps_per_epoch, length.warmup_steps)  # fmt: skip
    if split.accumulation > 1 and any(isinstance(m, nn.BatchNorm2d) for m in method.modules()):
        log.warning("BatchNorm's statistics are over %d images, not the whole step",
                    split.batch * split.world)  # fmt: skip
    if resumed_at is not None:
        log.info("resumed after step %d", resumed_at)
