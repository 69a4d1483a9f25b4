"""Two processes compute what one does: the same weights, each validation image counted once."""

from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import read_encoder
from tests.processes import ROOT, start_two
from transfer.classification.predictions import NAME, read_predictions
from transfer.classification.run import run
from transfer.datasets.class_split import open_split
from transfer.results.record import read_result


def test_two_processes_are_one(small, config_file, encoder, tree, tmp_path: Path):
    """Without mixing, whose draws are each process's own; BatchNorm is over both."""
    words = [f"weights={encoder}", "mixup=0", "cutmix=0", "repeats=2", "base_lr=0.001"]
    out = tmp_path / "two"
    command = [ROOT / "tools/finetune.py", config_file, "--data", tree, "--out", out, *words]
    said = start_two("torchrun", command)
    assert "top1" in said
    run(small(*words[1:]), tree, tmp_path / "one")
    two, one = read_result(out), read_result(tmp_path / "one")
    assert two.dataset.val_images == 15
    assert (two.train_hash, two.eval_hash) == (one.train_hash, one.eval_hash)
    assert two.metrics == pytest.approx(one.metrics, abs=7)  # one image of 15 may flip
    val = open_split(tree, "val")
    said = read_predictions(out / NAME, val).classes == torch.from_numpy(val.labels)
    assert two.metrics["top1"] == pytest.approx(100 * float(said.float().mean()))
    there, here = (
        read_encoder(folder / "encoder.safetensors")[0] for folder in (out, tmp_path / "one")
    )
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
