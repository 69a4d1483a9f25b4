"""The command: user errors are one line and status 2, a finished run is left alone."""

import runpy
import subprocess
import sys

import pytest

from tests.transfer.segmentation.conftest import TINY_NET, write_scenes
from transfer.results.record import read_result

pytest.importorskip("mmseg")
TOOL = "tools/train_seg.py"
CUSTOM = "configs/segmentation/custom.py"


@pytest.fixture
def call(monkeypatch, capsys):
    """call(*arguments) -> (status, stdout, stderr) of the tool."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [TOOL, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(TOOL, run_name="__main__")
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def test_an_occupied_folder_is_refused(call, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    status, _, err = call(CUSTOM, "--work-dir", tmp_path)
    assert status == 2
    assert "is not empty" in err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_run_is_left_alone(call, tmp_path):
    (tmp_path / "result.json").write_text('{"metrics": {}}')
    status, out, _ = call(CUSTOM, "--work-dir", tmp_path, "--resume")
    assert (status, out.count("\n")) == (0, 1)
    assert "nothing to do" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["lrr=1"], "did you mean 'lr'"),
        (["classes=a,b"], "data_root is not set"),
        (["classes=a,b", "data_root=/nowhere"], "no folder"),
        (["classes=a,b,c", "data_root={scenes}"], "weights=none needs arch"),
    ],
)
def test_user_errors_are_one_line(call, tmp_path, options, message):
    write_scenes(tmp_path / "scenes", 2, seed=0)
    write_scenes(tmp_path / "scenes", 2, seed=1)
    options = [option.format(scenes=tmp_path / "scenes") for option in options]
    status, _, err = call(CUSTOM, "--work-dir", tmp_path / "run", "--cfg-options", *options)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_yaml_config_is_refused_unrun(call, tmp_path):
    config, ran = tmp_path / "run.yaml", tmp_path / "ran"
    config.write_text(f'lr: !!python/object/apply:os.system ["touch {ran}"]\n')
    status, _, err = call(config, "--work-dir", tmp_path / "run")
    assert status == 2
    assert err.startswith(f"error: {config}: a config is a Python file")
    assert not ran.exists()
    assert not (tmp_path / "run").exists()


def test_evaluation_needs_a_trained_net(call, tmp_path):
    status, _, err = call(CUSTOM, "--work-dir", tmp_path, "--eval-only")
    assert status == 2
    assert "state.pt" in err


def test_evaluation_says_that_a_run_is_unfinished(call, tmp_path, caplog):
    write_scenes(tmp_path / "scenes", 2, seed=0)
    write_scenes(tmp_path / "scenes", 2, seed=1)
    options = [
        f"data_root={tmp_path / 'scenes'}",
        "classes=noise,square,stripe",
        "arch=convnext_atto",
        TINY_NET,
        "crop_size=(64, 64)",
        "scale=(256, 64)",
        "head_channels=8",
        "aux_channels=8",
        "batch_size=2",
        "max_iters=2",
        "warmup_iters=1",
    ]
    out = tmp_path / "run"
    arguments = (CUSTOM, "--work-dir", out, "--cfg-options", *options)
    assert call(*arguments)[0] == 0
    finished = (out / "result.json").read_bytes()
    record = read_result(out)
    assert str(record.command).startswith(f"python {TOOL} {CUSTOM} --work-dir")
    assert record.cost.devices == 1
    assert record.evaluated_at is not None
    status, said, _ = call(*arguments, "--eval-only")
    assert (status, (out / "result.json").read_bytes()) == (0, finished)
    assert "mIoU" in said
    assert "unfinished" not in caplog.text
    from transfer.segmentation.state import load, save

    earlier = tmp_path / "earlier.pt"
    save(earlier, {**load(out / "state.pt"), "step": 1})
    (out / "result.json").unlink()
    status, said, _ = call(*arguments, "--eval-only", "--checkpoint", earlier)
    assert status == 0
    assert "unfinished: 1 of 2 steps" in caplog.text
    assert "mIoU" in said
    assert not (out / "result.json").exists()


def test_importing_it_says_nothing():
    """MMSegmentation prints a line for each optional part that is not installed."""
    said = subprocess.run(
        [sys.executable, "-c", "import transfer.segmentation.native"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (said.stdout, said.stderr) == ("", "")
