"""A hostile file is refused at every door through which MMEngine reads weights."""

import os
import traceback
from pathlib import Path

import pytest
import torch

from transfer.segmentation.safe_files import close_doors, read_tensors, write_tensors


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def hostile(tmp_path):
    path, marker = tmp_path / "hostile.pth", tmp_path / "owned"
    torch.save({"state_dict": {"weight": Payload(marker)}, "meta": {}}, path)
    close_doors()
    yield path
    assert not marker.exists()


def test_load_from_and_resume(hostile, tiny, tmp_path):
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.runner import build_runner, read_state

    runner = build_runner(fill_in(load_config("configs/segmentation/custom.py", tiny)), tmp_path)
    for read in (runner.load_checkpoint, runner.resume, read_state):
        with pytest.raises(ValueError, match="holds more than tensors") as error:
            read(str(hostile))
        assert "weights_only" not in "".join(traceback.format_exception(error.value))


def test_init_cfg_pretrained(hostile):
    from mmengine.model import BaseModule

    class Net(BaseModule):
        def __init__(self):
            super().__init__({"type": "Pretrained", "checkpoint": str(hostile)})
            self.layer = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="holds more than tensors"):
        Net().init_weights()


def test_mmengines_own_functions(hostile):
    from mmengine.runner import CheckpointLoader, checkpoint, load_checkpoint

    for read in (
        lambda: CheckpointLoader.load_checkpoint(str(hostile)),
        lambda: load_checkpoint(torch.nn.Linear(2, 2), str(hostile)),
        lambda: checkpoint._safe_torch_load(str(hostile)),
    ):
        with pytest.raises(ValueError, match="holds more than tensors"):
            read()


@pytest.mark.parametrize("where", ["https://host/a.pth", "torchvision://resnet18", "s3://a/b.pth"])
def test_nothing_is_downloaded(where):
    from mmengine.runner import CheckpointLoader

    close_doors()
    with pytest.raises(ValueError, match="not a local file"):
        CheckpointLoader.load_checkpoint(where)


def test_a_truncated_state_is_refused_and_a_failed_write_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.pth"
    write_tensors(path, {"a": torch.arange(1000)})
    with pytest.raises(Exception, match="pickle"):
        write_tensors(path, {"a": lambda: None})
    assert torch.equal(read_tensors(path)["a"], torch.arange(1000))
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        read_tensors(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_tensors(tmp_path / "nothing.pth")
