"""README's commands run as they stand, at their smallest.

A command is one entry of an ```sh block. Words that stand for a user's files are replaced;
`SMALLER` says what is added to make it quick. A command of several devices, or on data
that is not here, is held to what its tool says before it needs them.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.datasets.shapes.files import ShapesSettings, make_shapes

ROOT = Path(__file__).resolve().parents[1]
# first words of a command -> what is added to it
SMALLER = {
    "tools/pretrain.py": "--steps 2 --warmup-steps 1 --batch-size 8 --workers 0",
    "tools/train_net.py": "schedule.steps=2 schedule.warmup_steps=1 schedule.milestones=[]",
    "tools/train_seg.py": "max_iters=2 warmup_iters=1 crop_size=(64,64) scale=(256,64)",
    "tools/make_table.py": "",
    "tools/inspect_weights.py": "",
    "tools/convert_weights.py": "",
    "tools/analyze.py": "--images 4 --size 64",
}
CLUSTER = ("torchrun", "srun", "sbatch")


def commands() -> list[str]:
    """Return every command of README's shell blocks, continued lines joined, comments removed."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = (line.partition("  #")[0].strip() for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line]


def test_every_file_that_readme_names_is_there():
    words = {word for command in commands() for word in shlex.split(command)}
    files = {word for word in words if word.endswith(".py")}
    assert files
    missing = sorted(file for file in files if not (ROOT / file).is_file())
    assert not missing, f"README names {', '.join(missing)}"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "shapes"
    make_shapes(folder, ShapesSettings(unlabelled=16, train=8, val=4, image_size=64), workers=1)
    return folder


@pytest.mark.timeout(600)
def test_commands_on_own_images_run_in_their_order(data, tmp_path):
    coco, labels = data / "coco", data / "ADEChallengeData2016"
    given = {
        "IMAGES": data / "unlabelled",
        "TRAIN.json": coco / "annotations" / "instances_train2017.json",
        "VAL.json": coco / "annotations" / "instances_val2017.json",
        "data.train_images=DIR": f"data.train_images={coco / 'train2017'}",
        "data.val_images=DIR": f"data.val_images={coco / 'val2017'}",
        "data_root=DATA": f"data_root={labels}",
        "classes=background,nucleus": "classes=" + ",".join(f"class{i}" for i in range(10)),
        "train_images=images/train": "train_images=images/training",
        "train_labels=labels/train": "train_labels=annotations/training",
        "val_images=images/val": "val_images=images/validation",
        "val_labels=labels/val": "val_labels=annotations/validation",
        "OUT": "encoder.safetensors",
        "[--to encoder|timm|detectron2|mmseg]": "",
        "FILE": "runs/spark/encoder.safetensors",
    }
    mine = [c for c in commands() if runs_here(c)]
    assert any("train_net" in c for c in mine)
    assert any("train_seg" in c for c in mine)
    for command in mine:
        tool = shlex.split(command)[1]
        whole = f"{command} {SMALLER[tool]}"
        for word, value in given.items():
            whole = whole.replace(word, str(value))
        words = [sys.executable, *shlex.split(whole)[1:]]
        words = [w if not w.startswith(("tools/", "configs/")) else str(ROOT / w) for w in words]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2
    assert (tmp_path / "tables" / "table.md").is_file()


def runs_here(command: str) -> bool:
    """Return whether a command needs neither several devices nor data that is not here."""
    far = ("--num-gpus", "imagenet", "datasets/", *CLUSTER, "make ")
    return not any(word in command for word in far)


def test_commands_on_published_data_have_configs_and_options_that_exist():
    from transfer.detection.config import load_config as detection_config
    from transfer.segmentation.config import load_config as segmentation_config

    seen = []
    for command in commands():
        words = shlex.split(command)
        options = [w for w in words if re.match(r"[a-z_.]+=", w)]
        if runs_here(command):
            continue
        if "tools/train_net.py" in words:
            path = words[words.index("--config-file") + 1]
            detection_config(ROOT / path, [o for o in options if not o.startswith("nproc")])
            seen.append(path)
        if "tools/train_seg.py" in words:
            path = words[words.index("tools/train_seg.py") + 1]
            segmentation_config(ROOT / path, options)
            seen.append(path)
    assert len(seen) >= 2
