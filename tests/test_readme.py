"""The commands of README and docs/ run as they stand, at their smallest, in the order of the pages.

A command is one entry of an ```sh block. Words that stand for a user's files are replaced;
`SMALLER` says what is added to make it quick. A command of several devices, or on data
that is not here, is held to what its tool says before it needs them. A ```python block whose first
line names a file of configs/ is written there, in a copy of configs/.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.config.tokenizer import SIZES
from pretrain.files.lineage import stages_of_method
from pretrain.tokenizer.vae import DiscreteVAE, write_tokenizer
from tests.transfer.results.test_table import record
from transfer import tasks
from transfer.datasets.shapes.files import ShapesSettings, make_shapes
from transfer.results.record import read_result, write_result
from transfer.results.table import build_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# first words of a command -> what is added to it
SMALLER = {
    "tools/pretrain.py": "--steps 2 --warmup-steps 1 --batch-size 8 --workers 0",
    "tools/train_net.py": "schedule.steps=2 schedule.warmup_steps=1 schedule.milestones=[]",
    "tools/train_seg.py": "max_iters=2 warmup_iters=1 crop_size=(64,64) scale=(256,64)",
    "tools/finetune.py": "steps=2 warmup_steps=1 batch_size=4 input_size=64 workers=0",
    "tools/probe.py": "epochs=2 held_out=0.3 input_size=64 workers=0",
    "tools/make_table.py": "",
    "tools/report.py": "",
    "tools/check_records.py": "",
    "tools/inspect_weights.py": "",
    "tools/convert_weights.py": "",
    "tools/analyze.py": "--images 4 --size 64",
}
# page -> the test that runs its commands, where it is another one
ELSEWHERE = {"suites.md": "tests/tools/test_run_suite.py"}
CLASSES = [f"class{i}" for i in range(10)]  # of the drawn data, for ["background", "nucleus"]
CLUSTER = ("torchrun", "srun", "sbatch")


def commands(page: Path) -> list[str]:
    """Return every command of a page's shell blocks, continued lines joined, comments removed."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = (line.partition("  #")[0].strip() for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line]


def all_commands() -> list[str]:
    """Return the commands of all pages whose commands are run here."""
    return [c for page in PAGES if page.name not in ELSEWHERE for c in commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_is_there(page):
    mine = commands(page) if page.name not in ELSEWHERE else []
    words = {word for command in mine for word in shlex.split(command)}
    files = {word for word in words if word.endswith(".py")}
    inline = re.findall(r"`([\w/.]+/[\w.]*)`", page.read_text())
    files |= {n for n in inline if n.split("/")[0] in TOP and "NAME" not in n and "*" not in n}
    missing = sorted(f for f in files if not (ROOT / f).exists() and f not in examples(page))
    assert not missing, f"{page.name} names {', '.join(missing)}"


TOP = ("pretrain", "transfer", "configs", "tools", "tests", "docs")


def examples(page: Path) -> dict[str, str]:
    """Return path -> content of the files that a page's python blocks show."""
    blocks = re.findall(r"```python\n# (configs/\S+)\n(.*?)```", page.read_text(), re.S)
    return dict(blocks)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "shapes"
    make_shapes(folder, ShapesSettings(unlabelled=16, train=8, val=4, image_size=64), workers=1)
    return folder


@pytest.mark.timeout(900)
def test_commands_on_own_images_run_in_their_order(data, tmp_path):
    coco, labels = data / "coco", data / "ADEChallengeData2016"
    tokenizer = tmp_path / "tokenizer.safetensors"
    write_tokenizer(tokenizer, DiscreteVAE(SIZES["small"].sizes), {})
    given = {
        "IMAGES": data / "unlabelled",
        "TOKENIZER": tokenizer,
        "LABELLED": labels / "images" / "training",
        "LABELS": labels / "annotations" / "training",
        "CLASSES": data,  # its objects, cut out
        "TRAIN.json": coco / "annotations" / "instances_train2017.json",
        "VAL.json": coco / "annotations" / "instances_val2017.json",
        "data.train_images=DIR": f"data.train_images={coco / 'train2017'}",
        "data.val_images=DIR": f"data.val_images={coco / 'val2017'}",
        "data_root=DATA": f"data_root={labels}",
        "classes=background,nucleus": f"classes={','.join(CLASSES)}",
        "train_images=images/train": "train_images=images/training",
        "train_labels=labels/train": "train_labels=annotations/training",
        "val_images=images/val": "val_images=images/validation",
        "val_labels=labels/val": "val_labels=annotations/validation",
        "OUT": "encoder.safetensors",
        "[--to encoder|timm|detectron2|mmseg]": "",
        "FILE": "runs/spark/encoder.safetensors",
    }
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for page in PAGES:
        for path, content in examples(page).items():
            (tmp_path / path).write_text(content.replace('["background", "nucleus"]', str(CLASSES)))
    mine = [c for c in all_commands() if runs_here(c)]
    assert any("train_net" in c for c in mine)
    assert any("train_seg" in c for c in mine)
    assert any("finetune" in c for c in mine)
    for command in mine:
        tool = shlex.split(command)[1]
        whole = f"{command} {SMALLER[tool]}"
        for word, value in given.items():
            whole = whole.replace(word, str(value))
        words = [sys.executable, *shlex.split(whole)[1:]]
        words = [str(ROOT / w) if w.startswith("tools/") else w for w in words]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 5
    assert len(list((tmp_path / "runs").glob("*/evals/*.json"))) == 2
    assert read_result(tmp_path / "runs" / "nuclei").dataset.name == "nuclei"
    for name in ("tables/table.md", "report/report.html"):
        assert (tmp_path / name).is_file()


def runs_here(command: str) -> bool:
    """Return whether a command needs no hours, several devices or data that is not here."""
    far = ("--num-gpus", "imagenet", "datasets/", *CLUSTER, "make ", "embedded")
    return not any(word in command for word in far)


def test_commands_on_published_data_have_configs_and_options_that_exist():
    from transfer.detection.config import load_config as detection_config
    from transfer.segmentation.config import load_config as segmentation_config

    seen = []
    for command in all_commands():
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


def test_a_row_of_tasks_is_enough_for_tables(tmp_path, monkeypatch):
    """As docs/extending.md says."""
    depth = tasks.Task("depth", "train_depth.py", "depth", ("delta1", "delta2"), ("delta1",))
    monkeypatch.setitem(tasks.TASKS, "depth", depth)
    metrics = {"delta1": 80.0, "delta2": 90.0}
    runs = [
        record("scratch", 1.0, task="depth", metrics=metrics),
        record(
            "fcmae",
            1.0,
            task="depth",
            metrics={**metrics, "delta1": 85.0},
            stages=stages_of_method("fcmae"),
        ),
    ]
    written = [read_result(write_result(r, tmp_path / r.method)) for r in runs]
    table = build_table(written)
    assert [column.title for column in table.columns] == ["delta1"]
    assert table.rows[1].cells[table.columns[0]].delta == pytest.approx(5.0)
