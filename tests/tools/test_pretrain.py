"""tools/pretrain.py: one clear error before anything starts, and nothing twice."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pretrain.command import parse, run
from pretrain.config import load_recipe
from pretrain.files.encoder_file import read_identity
from tests.transfer.classification.conftest import draw_tree

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
from pretrain.config import FcmaeSettings, Recipe, RunSettings, Schedule

recipe = Recipe(
    arch="convnextv2_atto",
    arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    method=FcmaeSettings(decoder_width=32),
    image_size=64,
    batch_size=2,
    schedule=Schedule(steps=2, warmup_steps=0),
    run=RunSettings(workers=0, device="cpu"),
)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.new("RGB", (70, 70), (60 * i, 90, 30)).save(tmp_path / "images" / f"{i}.png")
    return str(tmp_path / "images")


def test_overrides_reach_the_recipe(recipe: str) -> None:
    words = ["--mask-ratio", "0.75", "--epochs", "3", "--betas", "0.8", "0.9", "--batch_size", "4"]
    before, command = parse([recipe, *words, "--arch-args", '{"depths": [1, 1, 2, 1]}'])
    given = command.recipe
    assert (given.method.mask_ratio, given.schedule.epochs) == (0.75, 3)
    assert (given.optimizer.betas, given.batch_size) == ((0.8, 0.9), 4)
    assert given.arch_args == {"depths": [1, 1, 2, 1]}
    assert (
        replace(
            given,
            arch_args=before.arch_args,
            method=before.method,
            batch_size=2,
            schedule=before.schedule,
            optimizer=before.optimizer,
        )
        == before
    )


@pytest.mark.parametrize(
    "name", ["spark_resnet50", "fcmae_convnextv2_tiny_800ep", "beit_base_in1k"]
)
def test_every_method_takes_overrides(name: str) -> None:
    path = str(ROOT / "configs" / "pretrain" / f"{name}.py")
    _, command = parse([path, "--seed", "4"])
    assert command.recipe == replace(load_recipe(path), seed=4)


def test_an_unknown_option_names_the_nearest(recipe: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        parse([recipe, "--mask-ration", "0.5"])
    assert stop.value.code == 2
    assert "--mask-ratio" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--no-decay", "x"], "--no-decay is now --never-decay"),
        (["--decay=x"], "--decay is now --always-decay"),
        (["--tokenizer_ema", "0.9"], "--tokenizer_ema is now --tokenizer-ema-decay"),
        (["--data", ""], "--data is empty"),
        (["--out="], "--out is empty"),
    ],
)
def test_former_names_and_empty_paths_are_refused(words: list[str], says: str, recipe: str) -> None:
    """An empty path, as of a variable that is not set, would be the folder one is in."""
    with pytest.raises(ValueError, match=says):
        parse([recipe, *words])


def test_a_value_of_another_type_is_refused(recipe: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        parse([recipe, "--epochs", "many"])
    assert stop.value.code == 2
    assert "--epochs" in "".join(capfd.readouterr())


def test_explain_prints_every_setting(recipe: str, capfd: pytest.CaptureFixture) -> None:
    assert run([recipe, "--explain", "--seed", "5"]) == 0
    text = capfd.readouterr().out
    for word in ("base_lr", "weight_decay_end", "seed", "command line", "recipe.py", "peak lr"):
        assert word in text


def test_data_and_out_are_needed(recipe: str, data: str) -> None:
    with pytest.raises(ValueError, match="--data is missing"):
        run([recipe])
    with pytest.raises(ValueError, match="--out is missing"):
        run([recipe, "--data", data])


def test_a_run_then_a_second_one(recipe: str, data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [recipe, "--data", data, "--out", str(out)]
    assert run(words) == 0
    assert read_identity(out / "encoder.safetensors").steps == 2
    with pytest.raises(ValueError, match="not empty: continue its run with --resume"):
        run(words)
    marks = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert run([*words, "--resume"]) == 0
    assert marks == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises(ValueError, match=r"other settings \(seed: 0 -> 3\)"):
        run([*words, "--resume", "--seed", "3"])


def test_resume_with_nothing_to_resume_starts(recipe: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run([recipe, "--data", data, "--out", str(tmp_path / "out"), "--resume"]) == 0


BAD = {
    "unreadable": (["--check-images"], "broken.png"),
    "unknown arch": (["--arch", "convnextv3"], "convnextv3"),
    "image size": (["--image-size", "50"], "image_size=50"),
    "batch": (["--batch-size", "64"], "4 images do not fill one step of 64"),
    "init": (["--init", "nowhere.safetensors"], "nowhere.safetensors"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_clear_error_and_nothing_begun(
    kind: str, recipe: str, data: str, tmp_path: Path
) -> None:
    if kind == "unreadable":
        (Path(data) / "broken.png").write_bytes(b"\x89PNG nothing more")
    words, says = BAD[kind]
    out = tmp_path / "out"
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        run([recipe, "--data", data, "--out", str(out), *words])
    assert not (out / "run.json").exists()
    (Path(data) / "broken.png").unlink(missing_ok=True)
    assert run([recipe, "--data", data, "--out", str(out)]) == 0


def test_the_tool_says_error_and_ends_with_2(tmp_path: Path) -> None:
    """From another folder, as a program; other tools find the package behind this file's name."""
    words = [sys.executable, str(ROOT / "tools" / "pretrain.py"), "no_such.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: no config at no_such.py; configs/pretrain has beit_base_in1k"
    )
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pretrain.config.recipe, pretrain"
    code += "; assert pretrain.__version__"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "tools")], cwd=tmp_path, check=True)


def test_an_empty_encoder_file_is_not_a_finished_run(
    recipe: str, data: str, tmp_path: Path
) -> None:
    words = [recipe, "--data", data, "--out", str(tmp_path / "out")]
    assert run(words) == 0
    encoder = tmp_path / "out" / "encoder.safetensors"
    whole = encoder.read_bytes()
    for size in (0, len(whole) - 8):
        encoder.write_bytes(whole[:size])
        assert run([*words, "--resume"]) == 0
        assert encoder.read_bytes() == whole


@pytest.mark.parametrize("words", ["--init no.safetensors", "--batch-size 5", "--image-size 50"])
def test_a_refusal_does_not_occupy_the_folder(
    words: str, recipe: str, data: str, tmp_path: Path
) -> None:
    command = [recipe, "--data", data, "--out", str(tmp_path / "out")]
    with pytest.raises((ValueError, FileNotFoundError), match=r"fill|multiple|no\.safe"):
        run([*command, *words.split()])
    left = {path.name for path in (tmp_path / "out").glob("*")}
    assert left <= {"data.json"}  # which images can be read
    assert run(command) == 0


def test_a_second_writer_is_refused(recipe: str, data: str, tmp_path: Path) -> None:
    """The first is another process; stopped, it gives the folder free with its state saved."""
    out = tmp_path / "out"
    words = [recipe, "--data", data, "--out", str(out), "--steps", "1000000"]
    command = [sys.executable, str(ROOT / "tools" / "pretrain.py"), *words]
    first = subprocess.Popen([*command, "--checkpoint-steps", "1"], stdout=subprocess.DEVNULL)
    while not (out / "state.pt").is_file() and first.poll() is None:
        time.sleep(0.1)
    said = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith(f"error: process {first.pid} on ")
    first.terminate()
    assert first.wait(60) == 143
    assert not list(out.glob(".*"))
    assert (out / "state.pt").is_file()


def test_a_probe_is_in_the_log(recipe: str, data: str, tmp_path: Path) -> None:
    """The tool itself: it alone hands the k-NN over. Two steps are an epoch of four images."""
    tree = draw_tree(tmp_path / "classes", train=3, val=2)
    words = [recipe, "--data", data, "--out", tmp_path / "out", "--steps", "3"]
    probe = ["--probe-every", "1", "--probe-data", tree]
    command = [sys.executable, ROOT / "tools/pretrain.py", *words, *probe]
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)
    (line,) = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert 0 <= json.loads(line)["knn_top1"] <= 100


@pytest.mark.parametrize("half", [["--probe-every", "2"], ["--probe-data", "."]])
def test_half_a_probe_is_refused(recipe: str, data: str, tmp_path: Path, half: list[str]) -> None:
    with pytest.raises(ValueError, match="a probe needs --probe-every N"):
        run([recipe, "--data", data, "--out", str(tmp_path / "out"), *half])
    assert not (tmp_path / "out").exists()
