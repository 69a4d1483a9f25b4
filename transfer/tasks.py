"""The tasks: what trains one, where its configs lie, and what its records measure.

A task is one row of TASKS; records, tables, suites and tools read it from there.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Task:
    """A kind of run that ends in a result record.

    `tool` is a file of tools/, `config_folder` lies under configs/. `columns` are the metrics that
    a table shows; `metrics` all that a published figure may be compared with.
    """

    name: str
    tool: str
    config_folder: str
    metrics: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def configs(self) -> Path:
        """Return the folder of the task's shipped configs."""
        return ROOT / "configs" / self.config_folder


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="detection",
            tool="train_net.py",
            config_folder="detection",
            metrics=tuple(f"AP{at}_{kind}" for kind in ("box", "mask") for at in ("", "50", "75")),
            columns=("AP_box", "AP_mask"),
        ),
        Task(
            name="segmentation",
            tool="train_seg.py",
            config_folder="segmentation",
            metrics=("mIoU", "mAcc", "aAcc"),
            columns=("mIoU",),
        ),
        Task(
            name="classification",
            tool="finetune.py",
            config_folder="classification",
            metrics=("top1", "top5"),
            columns=("top1", "top5"),
        ),
        Task(
            name="probe",
            tool="probe.py",
            config_folder="classification",
            metrics=("linear_top1", "linear_top5", "knn_top1"),
            columns=("linear_top1", "knn_top1"),
        ),
    )
}


def task_of_config(config: Path) -> Task:
    """Return the task whose config this is, by the folder that it lies in.

    Raises ValueError if the folder is not a task's.
    """
    for task in TASKS.values():
        if config.parent.name == task.config_folder:
            return task
    folders = ", ".join(f"configs/{task.config_folder}" for task in TASKS.values())
    raise ValueError(f"{config}: a task's config lies in one of {folders}")
