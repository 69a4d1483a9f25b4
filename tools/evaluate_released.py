"""Evaluate a segmentor, detector or classifier as its authors released it, before any training.

    python tools/evaluate_released.py NAME|FILE --data ADEChallengeData2016|COCO_ROOT|IMAGENET
        [--work-dir DIR] [--config configs/segmentation/NAME.py] [--cfg-options tta.on=True ...]

FILE is a UPerNet checkpoint of microsoft/unilm's BEiT, facebookresearch/ConvNeXt, or
MMSegmentation's BEiT, MAE, ConvNeXt or ResNet; a Mask R-CNN or Cascade Mask R-CNN of Detectron2's
model zoo (ResNet with FPN), of its ViTDet, or of a ConvNeXt in MMDetection (COCO_ROOT holds coco/);
or a classifier of SparK, FCMAE, ConvNeXt, BEiT, MAE or timm. NAME, one of
configs/released_segmentors.json or released_detectors.json, or a classifier of
configs/weights.json, is looked for in weights/, and fetched. The file chooses the test that its
authors used; --config names another. Figures, protocol and what is computed in another way than the
authors' code end in DIR/released.json, the record in DIR/result.json.
Several devices: torchrun --nproc-per-node N.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

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
    from transfer.weights.classifiers import find_classifier
    from transfer.weights.detectors import find_detector

    detector = find_detector(arguments.released)
    if detector is not None:
        evaluate_detector(*detector, arguments)
        return
    classifier = find_classifier(arguments.released)
    if classifier is not None:
        evaluate_classifier(classifier, arguments)
        return
    warnings.filterwarnings("ignore", module=r"(mmcv|mmseg|mmengine)\.")
    from transfer.weights.releases import find_segmentor, require_expected_hash
    from transfer.weights.segmentors import read_segmentor

    path, release = find_segmentor(arguments.released)
    file = read_segmentor(path)
    require_expected_hash(release, path, file.encoder.sha256)
    from transfer.segmentation import released

    options = [f"data_root={arguments.data}", *arguments.cfg_options]
    cfg = released.released_config(file, arguments.config, options)
    work_dir = arguments.work_dir or Path("outputs/released") / path.stem
    show(released.evaluate_released(file, cfg, work_dir, arguments.launcher, release), release)


def evaluate_detector(path: Path, release: Any, arguments: Arguments) -> None:
    """Evaluate a detector and print the figures; its processes are those of torchrun or srun."""
    from transfer.detection import released
    from transfer.weights.detectors import read_detector
    from transfer.weights.releases import require_expected_hash

    file = read_detector(path)
    require_expected_hash(release, path, file.encoder.sha256)
    options = [f"data.root={arguments.data}", *arguments.cfg_options]
    config = released.released_config(file, arguments.config, options)
    work_dir = arguments.work_dir or Path("outputs/released") / path.stem
    found = released.evaluate_released(file, config, work_dir, release)
    if found:
        show(found, release)


def evaluate_classifier(path: Path, arguments: Arguments) -> None:
    """Evaluate a classifier and print the figures. Raises ValueError for --config."""
    if arguments.config is not None:
        raise ValueError("--config is of segmentors: a classifier's test has --cfg-options alone")
    from transfer.classification import released

    file, published = released.read_released(path, arguments.cfg_options)
    config = released.released_config(file, published, arguments.cfg_options)
    work_dir = arguments.work_dir or Path("outputs/released") / path.stem
    show(released.evaluate_released(file, config, arguments.data, work_dir, published), published)


def show(found: dict[str, Any], published: Any) -> None:
    """Print the report, and the published figures where there are any."""
    if is_first_process():
        print(told(found))
        if published is not None:
            figures = "  ".join(f"{name} {value}" for name, value in published.published.items())
            print(f"published: {figures} ({published.named_in})")


def told(found: dict[str, Any]) -> str:
    """Format the report: figures, what was loaded, what differs."""
    figures = "  ".join(f"{name} {value:.2f}" for name, value in found["metrics"].items())
    read = f"{found['file']} ({found['layout']}): {found['tensors']} tensors, all of the file's"
    facts = [f"tested by {found['config']}", f"class order: {found['class_order']}"]
    facts.append(f"pixel statistics: {found['pixels']}")
    return "\n".join([figures, read, *facts, *(f"differs: {d}" for d in found["differences"])])


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
