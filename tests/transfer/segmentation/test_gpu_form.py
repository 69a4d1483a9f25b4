"""UperNet as a GPU would run it: every tensor on one device, the same losses as on the CPU.

What this cannot show: backward passes, CUDA kernels, memory, speed.
"""

import pytest

pytest.importorskip("mmseg")
import torch

from tests.gpu_form import CUDA, MixedDevicesError, StandIn, stand_in_gpu
from tools.benchmarks.segmentation import our_segmentor, sizes
from transfer.segmentation.estimate import random_batch

CONFIGS = ["resnet50", "convnextv2_tiny", "beit_base_pt"]


def segmentor(name):
    """As its config has it, without the heads' dropout, which CUDA draws in another way."""
    torch.manual_seed(0)
    options = [*sizes(name.partition("_")[0], 64), "drop_path_rate=0.0"]
    model, _ = our_segmentor(f"configs/segmentation/{name}_upernet_512.py", options)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout2d):
            part.p = 0.0
    return model.train()


def losses_of(model, batch):
    torch.manual_seed(1)
    data = model.data_preprocessor(batch, training=True)
    return {k: v for k, v in model(**data, mode="loss").items() if "loss" in k}


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_are_those_of_the_cpu(name, monkeypatch):
    batch = random_batch(150, (64, 64), 2)
    ours, theirs = segmentor(name), segmentor(name)
    expected = {k: v.item() for k, v in losses_of(theirs, batch).items()}
    with stand_in_gpu(monkeypatch, autocast=False) as reads:
        found = losses_of(ours.to(CUDA), batch)
    assert all(type(value) is StandIn for value in found.values())
    assert {k: v.numbers.item() for k, v in found.items()} == pytest.approx(expected, rel=1e-5)
    assert not reads  # the host never waits for a number


@pytest.mark.parametrize("name", CONFIGS)
def test_under_autocast(name, monkeypatch):
    batch = random_batch(150, (64, 64), 2)
    model = segmentor(name)
    with stand_in_gpu(monkeypatch) as reads:
        losses = losses_of(model.to(CUDA), batch)
        data = model.eval().data_preprocessor(batch, training=False)
        logits = model.decode_head(model.extract_feat(data["inputs"]))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert (logits.device, logits.dtype) == (CUDA, torch.bfloat16)
    assert not reads


def test_a_tensor_left_behind_is_noticed(monkeypatch):
    model = segmentor("resnet50")
    with stand_in_gpu(monkeypatch, autocast=False):
        model.to(CUDA).decode_head.conv_seg.to("cpu")
        with pytest.raises(MixedDevicesError, match="on the CPU"):
            losses_of(model, random_batch(150, (64, 64), 2))
