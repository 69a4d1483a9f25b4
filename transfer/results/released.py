"""Records of models that their authors trained and that were only evaluated here."""

import json
from pathlib import Path
from typing import Any

from pretrain.files.lineage import Lineage, method_of
from pretrain.files.write import atomic_write
from transfer.results.protocol import protocol_hash
from transfer.results.record import Cost, Dataset, Environment, Result, Training, write_result

REPORT = "released.json"
FRAMEWORK = "released"  # in a record's protocol of training: by others, in their own way


def training_of_release(
    task: str,
    dataset: Dataset,
    environment: Environment,
    seconds: float,
    *,
    report: dict[str, Any],
    backbone: str,
    backbone_args: dict[str, Any],
    stages: Lineage,
    named_in: str | None,
    notes: list[str],
) -> Training:
    """Return what a record says of a training that others did.

    `report` tells of the file as a run's load report does of its weights, with file and sha256.
    `stages` are those before the training on the task; without any, the model is from scratch.
    `seconds` are those of the evaluation.
    """
    train = {"framework": FRAMEWORK, "sha256": report["sha256"], "named_in": named_in}
    told = f"released by its authors ({named_in})" if named_in else "trained by others"
    return Training(
        task=task,
        method=method_of(stages),
        stages=list(stages),
        backbone=backbone,
        backbone_args=backbone_args,
        weights=report if stages else None,
        dataset=dataset,
        train=train,
        train_hash=protocol_hash(train),
        seed=0,
        cost=Cost(hours=seconds / 3600),
        environment=environment,
        notes=[f"{told}, evaluated here; the time is that of the evaluation", *notes],
    )


def require_no_report(work_dir: Path) -> None:
    """Raise ValueError where an evaluation of a released model has ended in the folder."""
    path = work_dir / REPORT
    if path.exists():
        raise ValueError(f"{path} is there already: give another --work-dir, or remove it")


def write_released(record: Result, report: dict[str, Any], work_dir: Path) -> None:
    """Write an evaluation's result.json, then its report."""
    work_dir.mkdir(parents=True, exist_ok=True)
    write_result(record, work_dir)
    text = json.dumps(report, indent=1)
    atomic_write(work_dir / REPORT, lambda path: path.write_text(text + "\n"))


def before_the_task(stages: Lineage, data: str) -> Lineage:
    """Return the stages of a finished model without its last ones, on the labels of `data`."""
    kept = list(stages)
    while kept and kept[-1].labels and kept[-1].data == data:
        kept.pop()
    return tuple(kept)
