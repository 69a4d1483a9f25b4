"""Two processes on a CPU train the net that one process trains."""

from pathlib import Path

import pytest
import torch

from tests.processes import start_two
from transfer.results.record import read_result
from transfer.segmentation.config import load_config
from transfer.segmentation.run import run
from transfer.segmentation.state import load


@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_processes_equal_one(tiny, tmp_path, launcher):
    config = tmp_path / "config.py"  # AdamW's step would blow rounding up to the learning rate
    text = "optim_wrapper = dict(optimizer=dict(eps=1.0))"
    config.write_text(
        f"_base_ = [{str(Path('configs/segmentation/custom.py').resolve())!r}]\n{text}"
    )
    options = [
        *tiny,
        "model.decode_head.dropout_ratio=0",
        "model.auxiliary_head.dropout_ratio=0",
        "drop_path_rate=0.0",
        "max_iters=3",
        "lr=0.1",
    ]
    one = run(load_config(config, options), tmp_path / "one")
    tool = ["tools/train_seg.py", config, "--work-dir", tmp_path / "two"]
    start_two(launcher, [*tool, "--cfg-options", *options])
    states = [load(tmp_path / name / "state.pt")["model"] for name in ("one", "two")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    two = read_result(tmp_path / "two")
    assert two.metrics["aAcc"] == pytest.approx(one.metrics["aAcc"], abs=0.5)
    assert not two.notes
