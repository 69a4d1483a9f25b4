"""A hostile file is refused at every door through which MMEngine reads weights."""

import os
import traceback
from pathlib import Path

import pytest
import torch

from transfer.segmentation.safe_files import read_tensors_only


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
    read_tensors_only()
    yield path
    assert not marker.exists()


def test_load_from_and_resume(hostile, tiny, tmp_path):
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.runner import build_runner
    from transfer.segmentation.state import load

    runner = build_runner(fill_in(load_config("configs/segmentation/custom.py", tiny)), tmp_path)
    for read in (runner.load_checkpoint, runner.resume, load):
        with pytest.raises(ValueError, match=r"hostile\.pth") as error:
            read(str(hostile))
        assert "weights_only" not in "".join(traceback.format_exception(error.value))


def test_init_cfg_pretrained(hostile):
    from mmengine.model import BaseModule

    class Net(BaseModule):
        def __init__(self):
            super().__init__({"type": "Pretrained", "checkpoint": str(hostile)})
            self.layer = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"hostile\.pth"):
        Net().init_weights()


def test_mmengines_own_functions(hostile):
    from mmengine.runner import CheckpointLoader, checkpoint, load_checkpoint

    for read in (
        lambda: CheckpointLoader.load_checkpoint(str(hostile)),
        lambda: load_checkpoint(torch.nn.Linear(2, 2), str(hostile)),
        lambda: checkpoint._safe_torch_load(str(hostile)),
    ):
        with pytest.raises(ValueError, match=r"hostile\.pth"):
            read()


@pytest.mark.parametrize("where", ["https://host/a.pth", "torchvision://resnet18", "s3://a/b.pth"])
def test_nothing_is_downloaded(where):
    from mmengine.runner import CheckpointLoader

    read_tensors_only()
    with pytest.raises(ValueError, match="not a local file"):
        CheckpointLoader.load_checkpoint(where)
