"""The commit, the versions and the command that a record carries."""

import subprocess
from pathlib import Path

import pytest
import torch

from pretrain.run import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit that this code seems to run from."""
    (tmp_path / "pretrain" / "run").mkdir(parents=True)
    (tmp_path / "kept.txt").write_text("1")
    (tmp_path / ".gitignore").write_text("ignored.txt\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [(None, False), ("ignored.txt", False), ("kept.txt", True), ("new.txt", True)],
)
def test_changes_and_new_files_count_unless_ignored(
    checkout: Path, changed: str | None, dirty: bool
) -> None:
    if changed:
        (checkout / changed).write_text("2")
    commit, found = provenance.git_state()
    assert len(commit) == 40
    assert found is dirty


def test_outside_of_a_checkout_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == ("unknown", None)


@pytest.mark.parametrize(
    ("words", "processes", "told"),
    [
        (
            ["tools/train_net.py", "--resume", "weights=a b.pth", "seed=1"],
            1,
            "python tools/train_net.py 'weights=a b.pth' seed=1",
        ),
        (
            [str(provenance.ROOT / "tools/train_seg.py"), f"{provenance.ROOT}/configs/x.py"],
            4,
            "torchrun --nproc-per-node 4 tools/train_seg.py configs/x.py",
        ),
        (["tools/train_net.py", "--num-gpus", "8"], 8, "python tools/train_net.py --num-gpus 8"),
        (["/usr/bin/pytest", "-q"], 1, None),
    ],
)
def test_the_command_that_begins_a_run_again(
    words: list[str], processes: int, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(provenance.ROOT)
    assert provenance.command_line(processes, words) == told


def test_versions_and_device() -> None:
    found = provenance.versions()
    assert torch.__version__.startswith(found["torch"])
    assert provenance.version("no-such-package") == "not installed"
    assert provenance.device_name("cpu") == "cpu"
    assert 10 < provenance.peak_memory_mib(torch.device("cpu")) < 1e6
