"""A suite -> steps: names, fingerprints of what they are made of, and what is missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import save_file

from transfer.suites import inputs, settings
from transfer.suites.board import Board
from transfer.suites.marks import changes
from transfer.suites.steps import plan
from transfer.suites.suite import Cell, Control, FineTune, Pretrain, Released, Suite, load_suite

FCMAE = Pretrain("configs/pretrain/shapes_fcmae_convnextv2.py")
DETECTION = "configs/detection/shapes_mask_rcnn.py"
SEGMENTATION = "configs/segmentation/shapes_upernet.py"
SHAPES = ("--unlabelled", "16", "--train", "8", "--val", "4")


@pytest.fixture(autouse=True)
def _fresh():
    for cached in (inputs.files_digest, inputs.content_digest, inputs.images_digest):
        cached.cache_clear()
    settings.task_settings.cache_clear()


def names(*cells: Cell, out: Path) -> list[str]:
    return [step.name for step in plan(Suite(cells, shapes=SHAPES), out)]


def weights_at(path: Path, value: float = 0.0) -> Path:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.full(3, value, np.float32)}, str(path))
    return path


def test_steps_stand_after_those_that_they_need(tmp_path):
    cells = (Cell(SEGMENTATION, FCMAE), Cell(SEGMENTATION, None, like=FCMAE))
    assert names(*cells, out=tmp_path) == [
        "shapes",
        "pretrain/shapes_fcmae_convnextv2",
        "segmentation/shapes_upernet/scratch-shapes_fcmae_convnextv2/seed0",
        "segmentation/shapes_upernet/shapes_fcmae_convnextv2/seed0",
    ]


def test_a_sweep_of_an_option_is_cells_with_names_of_their_own(tmp_path):
    cells = [Cell(SEGMENTATION, FCMAE, (f"lr={lr}",)) for lr in (1e-3, 3e-3)]
    label = "segmentation/shapes_upernet/shapes_fcmae_convnextv2"
    assert names(*cells, out=tmp_path)[2:] == [f"{label},lr=0.001/seed0", f"{label},lr=0.003/seed0"]


def test_two_encoders_of_one_file_name_are_two_cells(tmp_path):
    files = [weights_at(tmp_path / name / "encoder.safetensors") for name in ("one", "two")]
    found = names(*(Cell(SEGMENTATION, file) for file in files), out=tmp_path / "out")
    assert [name.split("/")[2] for name in found[1:]] == ["one-encoder", "two-encoder"]


def test_pretrainings_that_differ_are_steps_of_their_own(tmp_path):
    seeds = [replace(FCMAE, seed=seed) for seed in (0, 1)]
    longer = replace(FCMAE, options=("--steps", "400", "--batch-size=8"))
    found = names(*(Cell(SEGMENTATION, p) for p in (*seeds, longer)), out=tmp_path)
    assert [name for name in found if name.startswith("pretrain/")] == [
        "pretrain/shapes_fcmae_convnextv2,seed=0",
        "pretrain/shapes_fcmae_convnextv2,seed=1",
        "pretrain/shapes_fcmae_convnextv2,steps=400,batch-size=8",
    ]


def test_long_options_make_names_that_a_disk_takes_and_that_differ(tmp_path):
    many = tuple(f"train_images=images/{'x' * 200}{i}" for i in range(3))
    found = names(
        Cell(SEGMENTATION, FCMAE, many), Cell(SEGMENTATION, FCMAE, many[:2]), out=tmp_path
    )
    assert len(set(found)) == 4
    assert all(len(part) < 120 for name in found for part in name.split("/"))


def test_a_cell_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"names segmentation/.*seed0 twice: give one of the two"):
        names(Cell(SEGMENTATION, FCMAE), Cell(SEGMENTATION, FCMAE), out=tmp_path)
    pair = (Cell(SEGMENTATION, FCMAE), Cell(SEGMENTATION, FCMAE, name="again"))
    assert len(names(*pair, out=tmp_path)) == 4
    other = replace(FCMAE, options=("--steps", "3"), name="shapes_fcmae_convnextv2")
    with pytest.raises(ValueError, match="two stages of the suite are called"):
        names(Cell(SEGMENTATION, FCMAE), Cell(DETECTION, other), out=tmp_path)


def test_weights_in_a_text_are_refused():
    with pytest.raises(ValueError, match=r"weights='encoder.safetensors' of .*: give Pretrain"):
        Cell(SEGMENTATION, "encoder.safetensors")
    with pytest.raises(ValueError, match="are tuples"):
        Cell(SEGMENTATION, FCMAE, "lr=1e-3")


def test_a_control_takes_the_shuffled_values_of_its_weights(tmp_path):
    steps = plan(Suite((Cell(SEGMENTATION, Control(FCMAE)),), shapes=SHAPES), tmp_path)
    encoder = tmp_path / "pretrain/shapes_fcmae_convnextv2/encoder.safetensors"
    assert f"weights=control:shuffled:{encoder}" in steps[-1].command
    assert steps[-1].needs == ("shapes", "pretrain/shapes_fcmae_convnextv2")
    assert "shuffled-shapes_fcmae" in steps[-1].name


def test_a_frozen_random_encoder_is_a_cell_with_the_network_of_a_pretraining(tmp_path):
    frozen = ("freeze=backbone", "layer_decay=1.0")
    cell = Cell(SEGMENTATION, Control(kind="random"), frozen, like=FCMAE)
    step = plan(Suite((cell,), shapes=SHAPES), tmp_path)[-1]
    assert step.needs == ("shapes",)
    assert "/random-shapes_fcmae_convnextv2,freeze=backbone" in step.name
    assert "weights=control:random" in step.command
    assert "arch=convnextv2_atto" in step.command
    with pytest.raises(ValueError, match="random"):
        Control(FCMAE, "random")
    with pytest.raises(ValueError, match="a control is"):
        Control()


FINETUNE = FineTune("configs/classification/shapes_objects.py", FCMAE)


def test_a_fine_tuned_encoder_is_a_stage_between_pretraining_and_cell(tmp_path):
    steps = plan(Suite((Cell(SEGMENTATION, FINETUNE),), shapes=SHAPES), tmp_path)
    assert [step.name.split("/")[0] for step in steps] == [
        "shapes",
        "pretrain",
        "finetune",
        "segmentation",
    ]
    stage, cell = steps[2:]
    assert stage.name == "finetune/shapes_objects-from-shapes_fcmae_convnextv2"
    assert stage.needs == ("shapes", steps[1].name)
    assert stage.product.name == "result.json"
    assert f"weights={steps[1].product}" in stage.command
    assert f"weights={stage.folder / 'encoder.safetensors'}" in cell.command
    assert cell.needs == ("shapes", stage.name)
    assert not [problem for step in steps for problem in step.problems]
    changed = plan(
        Suite((Cell(SEGMENTATION, replace(FINETUNE, options=("batch_size=8",))),), shapes=SHAPES),
        tmp_path,
    )
    assert changed[2].name == f"{stage.name},batch_size=8"


def test_a_fine_tuning_is_stale_when_its_options_or_labels_change(tmp_path):
    labelled = tmp_path / "labelled"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            images_at(labelled / split / name, 2)
    one = replace(FINETUNE, of=None, data=str(labelled), name="one")

    def fingerprint(stage):
        inputs.labelled_digest.cache_clear()
        step = plan(Suite((Cell(SEGMENTATION, stage),), shapes=SHAPES), tmp_path)[1]
        assert not step.problems
        return json.loads(json.dumps(step.settings))

    before = fingerprint(one)
    assert changes(before, fingerprint(replace(one, options=("batch_size=8",)))) == [
        "batch_size was 32, is 8"
    ]
    images_at(labelled / "train" / "cat", 3)
    (told,) = changes(before, fingerprint(one))
    assert told.startswith("data.train was '4 images, ")


def test_a_fine_tuning_without_labels_or_with_a_wrong_option_is_told(tmp_path):
    wrong = replace(FINETUNE, options=("batch=8",), data=str(tmp_path / "nowhere"))
    problems = plan(Suite((Cell(SEGMENTATION, wrong),), shapes=SHAPES), tmp_path)[2].problems
    assert "has no setting 'batch'" in problems[0]
    assert "nowhere" in problems[1]


ACCURACY = "configs/classification/shapes_objects.py"


def test_accuracy_and_probes_are_cells_on_images_with_classes(tmp_path):
    cells = (
        Cell(ACCURACY, FCMAE, ("steps=9",), seeds=(3,)),
        Cell(ACCURACY, None, like=FCMAE),
        Cell("probe", FCMAE, ("input_size=64",)),
    )
    steps = plan(Suite(cells, shapes=SHAPES), tmp_path, gpus=2)
    pretrain = next(step for step in steps if step.stage)
    tuned, scratch, probed = sorted((s for s in steps if s.cell), key=lambda s: cells.index(s.cell))
    label = "shapes_fcmae_convnextv2"
    assert tuned.name == f"classification/shapes_objects/{label},steps=9/seed3"
    assert scratch.name == f"classification/shapes_objects/scratch-{label}/seed0"
    assert probed.name == f"probe/{label},input_size=64/seed0"
    assert {step.product.name for step in (tuned, scratch, probed)} == {"result.json"}
    tool, config, *words = tuned.command
    assert tool.endswith("tools/finetune.py")
    assert config.endswith(ACCURACY)
    places = ["--data", str(tmp_path / "data"), "--out", str(tuned.folder)]
    given = [f"weights={pretrain.product}", "seed=3", "steps=9"]
    assert words == [*places, "--resume", *given]
    assert "weights=none" in scratch.command
    assert "arch=convnextv2_atto" in scratch.command
    tool, encoder, *words = probed.command
    assert (tool.endswith("tools/probe.py"), encoder) == (True, str(pretrain.product))
    assert words == [*places[:3], str(probed.folder), "seed=0", "input_size=64"]
    assert tuned.needs == probed.needs == ("shapes", pretrain.name)
    assert (tuned.gpus, probed.gpus) == (2, 1)
    assert not [problem for step in (tuned, scratch, probed) for problem in step.problems]


def test_settings_of_accuracy_and_probes_are_all_that_changes_their_numbers(tmp_path):
    def settings(cell):
        return plan(Suite((cell,), shapes=SHAPES), tmp_path)[-1].settings

    for task in (ACCURACY, "probe"):
        cell = Cell(task, FCMAE)
        same = settings(replace(cell, options=("workers=3", "test_batch_size=7", "device=cpu")))
        assert same == settings(cell)
        other = settings(replace(cell, options=("crop_pct=0.5",)))
        assert changes(settings(cell), other)[0].startswith("images.crop_pct was ")


def test_other_images_with_classes_make_accuracy_stale(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            images_at(tmp_path / "labelled" / split / name, 2)
    suite = Suite(
        (Cell(ACCURACY, None, arch="resnet18"),), labelled_data=str(tmp_path / "labelled")
    )
    (before,) = plan(suite, tmp_path / "out")
    assert before.needs == ()
    assert before.command[3] == str(tmp_path / "labelled")
    assert not before.problems
    images_at(tmp_path / "labelled/train/cat", 3)
    inputs.labelled_digest.cache_clear()
    (after,) = plan(suite, tmp_path / "out")
    assert [line.split()[0] for line in changes(before.settings, after.settings)] == ["data.train"]


def test_what_an_accuracy_or_a_probe_lacks_is_told(tmp_path):
    cells = (
        Cell(ACCURACY, None),
        Cell("configs/classification/beit_base_in22k.py", None, arch="resnet18"),
        Cell("probe", None, ("epoch=3",), arch="resnet18"),
    )
    steps = sorted(plan(Suite(cells), tmp_path), key=lambda step: cells.index(step.cell))
    told = [step.problems for step in steps]
    assert all(any("has no images: set labelled_data" in line for line in lines) for lines in told)
    assert any("has neither weights nor a network" in line for line in told[0])
    assert any("ends in no record: evaluate is false" in line for line in told[1])
    assert any("did you mean 'epochs'" in line for line in told[2])
    with pytest.raises(ValueError, match="a probe is evaluated once"):
        Cell("probe", FCMAE, also_test=("input_size=96",))
    with pytest.raises(ValueError, match="takes no control yet"):
        Cell(ACCURACY, Control(FCMAE))


def test_an_accuracy_can_be_measured_a_second_time(tmp_path):
    cell = Cell(ACCURACY, None, arch="resnet18", also_test=("crop_pct=0.9",))
    _, trained, again = plan(Suite((cell,), shapes=SHAPES), tmp_path)
    assert again.command[-2:] == ("crop_pct=0.9", "--eval-only")
    assert "--resume" not in again.command
    assert again.needs == (trained.name,)
    assert changes(trained.settings, again.settings)[0].startswith("images.crop_pct was 1.0")


def test_a_suite_that_names_a_missing_config_is_refused(tmp_path):
    suite = Suite((Cell("configs/detection/nothing.py"),))
    with pytest.raises(FileNotFoundError, match=r"nothing\.py, which does not exist"):
        plan(suite, tmp_path)


def copy_of_config(folder: Path, base: str) -> str:
    """Return a segmentation config that builds on a base file of its own."""
    shipped = Path(__file__).resolve().parents[3] / SEGMENTATION
    folder = folder / "segmentation"
    folder.mkdir(exist_ok=True)
    (folder / "base.py").write_text(f"_base_ = [{str(shipped)!r}]\n{base}\n")
    (folder / "own.py").write_text('_base_ = ["base.py"]\n')
    return str(folder / "own.py")


def settings_of(config: str, out: Path) -> dict:
    settings.task_settings.cache_clear()
    step = plan(Suite((Cell(config, FCMAE),), shapes=SHAPES), out)[-1]
    return json.loads(json.dumps(step.settings))


def test_a_change_in_what_a_config_builds_on_changes_its_settings(tmp_path):
    before = settings_of(copy_of_config(tmp_path, "lr = 1e-3"), tmp_path)
    after = settings_of(copy_of_config(tmp_path, "lr = 2e-3"), tmp_path)
    assert changes(before, after) == ["lr was 0.001, is 0.002"]


def test_what_changes_no_number_changes_no_settings(tmp_path):
    before = settings_of(copy_of_config(tmp_path, "lr = 1e-3"), tmp_path)
    (tmp_path / "moved").mkdir()
    moved = copy_of_config(tmp_path / "moved", "workers = 3\nlr = 1e-3  # the same")
    assert changes(before, settings_of(moved, tmp_path / "elsewhere")) == []


def test_settings_name_no_path(tmp_path):
    cells = (Cell(SEGMENTATION, FCMAE), Cell(DETECTION, None, like=FCMAE))
    for step in plan(Suite(cells, shapes=(*SHAPES, "--workers", "2")), tmp_path):
        text = json.dumps(step.settings)
        assert str(tmp_path) not in text
        assert step.name != "shapes" or "workers" not in text
        assert str(Path(__file__).resolve().parents[3]) not in text


def images_at(folder: Path, count: int, size: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (size, size), (i, 0, 0)).save(folder / f"{i}.png")
    return folder


def test_other_images_are_another_digest(tmp_path):
    before = inputs.files_digest(images_at(tmp_path / "images", 3))
    inputs.files_digest.cache_clear()
    assert inputs.files_digest(tmp_path / "images") == before
    inputs.files_digest.cache_clear()
    images_at(tmp_path / "images", 1, size=64)  # one of them, of another size on disk
    assert inputs.files_digest(tmp_path / "images") != before
    assert before.startswith("3 files, ")


def test_missing_data_weights_and_wrong_options_are_told_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    suite = Suite(
        (
            Cell(SEGMENTATION, Released("spark_resnet50")),
            Cell(SEGMENTATION, tmp_path / "gone.pth"),
            Cell(SEGMENTATION, FCMAE, ("learning_rate=1",)),
            Cell(DETECTION, FCMAE, ("optimizer.lr=fast",)),
        )
    )
    monkeypatch.chdir(tmp_path)
    by_name = {step.name: step for step in plan(suite, tmp_path / "out")}
    told = [problem for step in by_name.values() for problem in step.problems]
    text = "\n".join(told)
    assert "spark_resnet50 is not there: get it from https://" in text
    assert f"no weights at {tmp_path / 'gone.pth'}" in text
    assert "has no key 'learning_rate'" in text
    assert "optimizer.lr: a number expected" in text
    assert "has no images: set pretrain_data" in text
    place = tmp_path / "nowhere" / "ADEChallengeData2016" / "images" / "training"
    assert f"nothing at {place}: name the datasets' folder in DETECTRON2_DATASETS" in text
    assert all("\n" not in problem for problem in told)


def test_a_cell_from_scratch_needs_a_network(tmp_path):
    steps = plan(Suite((Cell(SEGMENTATION),), shapes=SHAPES), tmp_path)
    assert "has neither weights nor a network: give like= or arch=" in steps[-1].problems[0]
    own = plan(Suite((Cell(SEGMENTATION, arch="resnet18"),), shapes=SHAPES), tmp_path)
    assert not own[-1].problems


def test_a_missing_tokenizer_is_told_beside_the_rest(tmp_path):
    beit = Pretrain("configs/pretrain/shapes_beit_vit.py", ("--tokenizer", "nowhere.safetensors"))
    step = plan(Suite((Cell(SEGMENTATION, beit),), shapes=SHAPES), tmp_path)[1]
    assert step.problems[0].startswith("no tokenizer at nowhere.safetensors: convert OpenAI's")
    assert step.settings["config"]["image_size"]
    own = replace(beit, options=())
    step = plan(Suite((Cell(SEGMENTATION, own),), shapes=SHAPES), tmp_path)[1]
    assert not step.problems


def test_wrong_words_of_a_pretraining_are_told(tmp_path):
    suite = Suite((Cell(SEGMENTATION, replace(FCMAE, options=("--stepps", "3"))),), shapes=SHAPES)
    problems = [problem for step in plan(suite, tmp_path) for problem in step.problems]
    assert len(problems) == 1
    assert "does not take --stepps 3: Unrecognized options" in problems[0]
    assert "--- " not in problems[0]


def test_another_file_of_weights_makes_its_cells_stale(tmp_path):
    file = weights_at(tmp_path / "one" / "encoder.safetensors")
    suite = Suite((Cell(SEGMENTATION, file),), shapes=SHAPES)
    before = Board(plan(suite, tmp_path), tmp_path).fingerprints
    weights_at(file, 1.0)
    inputs.content_digest.cache_clear()
    after = Board(plan(suite, tmp_path), tmp_path).fingerprints
    (name,) = (n for n in after if n.startswith("segmentation"))
    (told,) = changes(before[name], after[name])
    assert told.startswith("weights was '")


SUITE_OF_ARGUMENTS = """
'''For any weights.

python tools/run_suite.py own.py --out DIR --set weights=FILE
'''
from pathlib import Path
from transfer.suites.suite import Cell, Suite

def suite(weights, seeds=1):
    return Suite((Cell("configs/detection/shapes_mask_rcnn.py", Path(weights), seeds=(seeds,)),))
"""


def test_a_suite_may_take_arguments(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(SUITE_OF_ARGUMENTS)
    assert load_suite(file, ["weights=a.pth", "seeds=3"]).cells[0].seeds == (3,)
    with pytest.raises(
        ValueError, match=r"it needs --set weights=\.\.\., for example python tools"
    ):
        load_suite(file)
    with pytest.raises(ValueError, match="no argument weight; did you mean 'weights'"):
        load_suite(file, ["weight=a.pth"])


@pytest.mark.parametrize("text", ["suite = Suite(", "suite = 3", "suite = Cell(3)", ""])
def test_a_file_that_is_not_a_suite_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.py").write_text(text)
    with pytest.raises(ValueError, match=r"x\.py"):
        load_suite(tmp_path / "x.py")
