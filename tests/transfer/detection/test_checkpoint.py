"""Every door through which a file of weights enters detection reads tensors and runs nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from pretrain.run.folder import RECORD, RunFolder
from tests.transfer.weights import cases_hostile as hostile
from transfer.detection import checkpoint
from transfer.detection.config import ConfigError
from transfer.detection.folder import identity_of
from transfer.detection.prepare import prepare
from transfer.detection.run import eval_only, run

Tiny = Callable[..., DictConfig]
FILES = {**hostile.RUNNING, **hostile.BROKEN}


@pytest.mark.parametrize("kind", FILES)
def test_checkpoints_are_read_as_tensors_only(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    FILES[kind][0](path)
    with pytest.raises(ValueError, match=r"model\.pth"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["zip reduce", "pickle reduce"])
def test_every_door_of_a_run_is_that_one(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    write, told = hostile.RUNNING[kind]
    out = tmp_path / "out"
    RunFolder(out, RECORD).begin(identity_of(prepare(tiny("out"))))
    for name, door in {
        "encoder.pth": lambda p: run(tiny("new", f"weights={p}")),
        "model.pth": lambda p: eval_only(tiny("out", f"checkpoint={p}")),
        "state.pt": lambda _: run(tiny("out"), resume=True),
    }.items():
        write(out / name)
        with pytest.raises(ValueError, match=told):
            door(out / name)
        (out / name).unlink()
        assert not (out / "ran").exists()
    with pytest.raises(ConfigError, match="weights=FILE"):
        tiny("out", "train.init_checkpoint=model.pkl")


def test_a_broken_state_says_how_to_go_on(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    RunFolder(out, RECORD).begin(identity_of(prepare(tiny("out"))))
    torch.save({"weights": {}}, out / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt: not a training state of this suite"):
        run(tiny("out"), resume=True)
