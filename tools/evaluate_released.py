"""Evaluate a segmentor or detector as its authors released it, before anything is trained.

    python tools/evaluate_released.py NAME|FILE --data ROOT [--work-dir DIR]
        [--config configs/segmentation/NAME.py] [--cfg-options tta.on=True ...]

FILE is a UPerNet checkpoint of microsoft/unilm's BEiT, facebookresearch/ConvNeXt, or
MMSegmentation's BEiT, MAE, ConvNeXt or ResNet; or a Mask R-CNN or Cascade Mask R-CNN of
Detectron2's model zoo (ResNet with FPN), of its ViTDet, or of a ConvNeXt in MMDetection. NAME, one
of configs/released_segmentors.json or released_detectors.json, is looked for in weights/. ROOT is
ADE20K's folder, or the one that holds coco/. The file chooses the config whose test its authors
used; --config names another. Figures, protocol and what is computed in another way than the
authors' code end in DIR/released.json. Several devices: torchrun --nproc-per-node N.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pretrain.files.read import sha256_of
from pretrain.run.processes import is_first_process, log_to_stdout
from pretrain.run.stop import exit_status


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    released: Annotated[str, tyro.conf.Positional]
    """The released checkpoint, or its name."""
    data: Path
    """Folder of the data: data_root of a segmentation config, data.root of a detection config."""
    work_dir: Path | None = None
    """Where released.json goes; default: outputs/released/NAME."""
    config: Path | None = None
    """The config to test by, instead of the one that the file chooses."""
    launcher: Literal["auto", "none", "pytorch", "slurm"] = "auto"
    """Of several processes; auto: torchrun or srun where one of them started this."""
    cfg_options: tuple[str, ...] = ()
    """KEY=VALUE of the config; the network is the file's."""


def main(arguments: Arguments) -> None:
    """Evaluate and print the figures."""
    log_to_stdout()
    from transfer.weights.detectors import detectors, find_released, is_detector
    from transfer.weights.releases import require_expected_hash

    path, release = find_released(arguments.released)
    named = release is not None and release.name in detectors()
    evaluate = evaluate_detector if named or is_detector(path) else evaluate_segmentor
    require_expected_hash(release, path, sha256_of(path))
    work_dir = arguments.work_dir or Path("outputs/released") / path.stem
    found = evaluate(path, work_dir, arguments)
    if is_first_process():
        print(told(found))
        if release is not None:
            figures = "  ".join(f"{name} {value}" for name, value in release.published.items())
            print(f"published: {figures} ({release.named_in})")


def evaluate_segmentor(path: Path, work_dir: Path, arguments: Arguments) -> dict[str, Any]:
    """Return the report of a segmentor."""
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    from transfer.segmentation import released
    from transfer.weights.segmentors import read_segmentor

    file = read_segmentor(path)
    options = [f"data_root={arguments.data}", *arguments.cfg_options]
    cfg = released.released_config(file, arguments.config, options)
    return released.evaluate_released(file, cfg, work_dir, arguments.launcher)


def evaluate_detector(path: Path, work_dir: Path, arguments: Arguments) -> dict[str, Any]:
    """Return the report of a detector; its processes are always those of torchrun or srun."""
    from transfer.detection import released
    from transfer.weights.detectors import read_detector

    file = read_detector(path)
    options = [f"data.root={arguments.data}", *arguments.cfg_options]
    config = released.released_config(file, arguments.config, options)
    return released.evaluate_released(file, config, work_dir)


def told(found: dict[str, Any]) -> str:
    """Format the report: figures, what was loaded, what differs."""
    figures = "  ".join(f"{name} {value:.2f}" for name, value in found["metrics"].items())
    read = f"{found['file']} ({found['layout']}): {found['tensors']} tensors, all of the file's"
    facts = [f"tested by {found['config']}", f"class order: {found['class_order']}"]
    facts.append(f"pixel statistics: {found['pixels']}")
    return "\n".join([figures, read, *facts, *(f"differs: {d}" for d in found["differences"])])


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
