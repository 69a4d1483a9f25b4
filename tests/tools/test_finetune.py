"""The command lines of tools/finetune.py and tools/probe.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.transfer.classification.conftest import NET, SMALL, draw_tree
from tools import finetune, probe, show_predictions
from transfer.weights import releases

WORDS = ["weights=none", "arch=resnet26", f"arch_args={NET}"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return draw_tree(tmp_path_factory.mktemp("classes"))


@pytest.fixture
def call(tmp_path, tree, monkeypatch, capsys):
    (tmp_path / "small.py").write_text(SMALL)
    places = ["--data", str(tree), "--out", str(tmp_path / "out")]

    def call(*more: str, tool=finetune, first: str = str(tmp_path / "small.py")):
        monkeypatch.setattr("sys.argv", ["tool.py", first, *places, *more])
        status = tool.main()
        return status, capsys.readouterr()

    return call


def test_train_resume_and_evaluate(call, tmp_path):
    status, said = call(*WORDS)
    assert status == 0
    assert "top1 " in said.out
    before = (tmp_path / "out" / "result.json").read_bytes()
    assert call(*WORDS)[0] == 2  # in use
    status, said = call(*WORDS, "--resume")
    assert (status, "finished already" in said.out) == (0, True)
    assert call(*WORDS, "--eval-only")[0] == 0
    assert (tmp_path / "out" / "result.json").read_bytes() == before


def test_predictions_are_shown_again(call, tmp_path, tree, capsys):
    assert call(*WORDS)[0] == 0
    out, picture = tmp_path / "out", tmp_path / "shown.png"
    assert (out / "predictions.png").stat().st_size > 1000
    asked = show_predictions.Arguments(run=out, out=picture, count=3, data=tree)
    show_predictions.main(asked)
    assert capsys.readouterr().out.split() == [str(picture)]
    assert picture.stat().st_size > 1000
    with pytest.raises(ValueError, match="--data DIR is needed"):
        show_predictions.main(replace(asked, data=None))


def test_a_wrong_command_line_is_refused(call, tmp_path):
    status, said = call(*WORDS, "epoch=3")
    assert status == 2
    assert "did you mean 'epochs'" in said.err
    assert call("--eval-only", *WORDS)[0] == 2  # nothing was trained
    assert not (tmp_path / "out").exists()


def test_dry_run(call, tmp_path):
    status, said = call(*WORDS, "--dry-run")
    assert status == 0
    assert "training would take" in said.out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_fetches_no_weights(call, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(releases, "download", lambda *_: pytest.fail("it fetches"))
    status, said = call("weights=convnextv2_atto_1k", "--dry-run")
    assert (status, said.err.count("\n")) == (2, 1)
    assert "convnextv2_atto_1k is not there: get it from https://" in said.err


def test_probe(call, tmp_path):
    quick = ["input_size=32", "epochs=2", "workers=0", "device=cpu", *WORDS[1:]]
    status, said = call(*quick, tool=probe, first="none")
    assert status == 0
    assert "linear_top1" in said.out
    assert (tmp_path / "out" / "result.json").is_file()
    assert call(*quick, "epoch=1", tool=probe, first="none")[0] == 2
