"""What a run will be and cost, before it starts: nothing is written."""

from pathlib import Path

from pretrain.run.loop import Loop
from pretrain.run.processes import launch
from pretrain.run.provenance import peak_memory_mib
from pretrain.run.timing import median_step_seconds
from transfer.classification.config import FineTuning
from transfer.classification.prepare import prepare
from transfer.classification.trainer import ClassifierTraining


def dry_run(config: FineTuning, data: Path, out: Path, file: Path | None = None) -> list[str]:
    """Check and build everything, run a few steps, and say what the whole run would take."""
    fabric = launch(config.run.device, config.precision)
    made = prepare(config, file, data, out, fabric)
    training = ClassifierTraining(made)
    loop = Loop(fabric, training, training.settings(), out, resume=False)
    length, model = training.length, made.built.model
    step_s = median_step_seconds(loop)
    parameters = sum(p.numel() for p in model.parameters())
    val = f"{len(made.val):,}" if made.val_split is not None else "no"
    return [
        f"data: {config.dataset}, {len(made.train):,} training and {val} validation images, "
        f"{len(made.classes)} classes",
        f"model: {model.arch}, {parameters / 1e6:.2f} M parameters, {made.precision}",
        f"weights: {made.built.report or 'none, from scratch'}",
        f"schedule: {length.steps:,} steps, {length.steps_per_epoch:,} an epoch; {made.share}",
        f"learning rate: {training.peak_lr:g} at most",
        f"probe on {fabric.device}: {config.batch_size / step_s:.2f} images/s, {step_s:.3f} s a "
        f"step, peak memory {peak_memory_mib(fabric.device):,.0f} MiB",
        f"training would take {length.steps * step_s / 3600:.2f} hours without evaluation",
    ]
