"""A loss that is not finite stops all processes; float16 with a scaled loss takes steps."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from pretrain.run.stop import NotFiniteError
from tests.transfer.segmentation.two_processes import in_two_processes
from transfer.segmentation.optimizer import (
    FiniteFloat16OptimWrapper,
    FiniteOptimWrapper,
    parameter_groups,
)


def one_bad_loss(rank: int, folder: Path) -> None:
    """Process 1 alone has a bad loss; both must notice."""
    net = nn.Linear(2, 1)
    wrapper = FiniteOptimWrapper(optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
    before = net.weight.detach().clone()
    loss = net(torch.ones(1, 2)).sum() * (float("nan") if rank else 1.0)
    try:
        wrapper.update_params(loss)
    except NotFiniteError as error:
        (folder / f"{rank}.txt").write_text(f"{error}; {torch.equal(net.weight, before)}")


def test_a_bad_loss_of_one_process_stops_the_others(tmp_path):
    in_two_processes(one_bad_loss, tmp_path)
    assert (tmp_path / "0.txt").read_text() == "the loss of another process is not finite; True"
    assert (tmp_path / "1.txt").read_text() == "the loss is nan; True"


def test_weight_decay_spares_vectors_or_nothing():
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    spared = parameter_groups(net, 1.0, 0.1)
    decayed = {n: g["weight_decay"] for g in spared for n in g["names"]}
    assert decayed == {"0.weight": 0.1, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}
    (everything,) = parameter_groups(net, 1.0, 0.1, no_weight_decay="nothing")
    assert everything["weight_decay"] == 0.1


def test_float16_scales_the_loss_and_stops_at_nan(monkeypatch):
    """MMEngine's wrapper wants a GPU; its parts run on the CPU as well."""
    module = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{module}.is_cuda_available", lambda: True)
    monkeypatch.setattr(f"{module}.GradScaler", partial(torch.amp.GradScaler, device="cpu"))
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    wrapper = FiniteFloat16OptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 1.0})
    expected = net.weight.detach() - 0.1 * torch.tensor([[3.0, 4.0]]) / 26**0.5  # clipped to 1
    wrapper.update_params(net(torch.tensor([[3.0, 4.0]])).sum())
    torch.testing.assert_close(net.weight.detach(), expected)
    assert wrapper.state_dict()["loss_scaler"]["scale"] == 2.0**16
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        wrapper.update_params(net(torch.ones(1, 2)).sum() * float("nan"))
    torch.testing.assert_close(net.weight.detach(), expected)
    wrapper.loss_scaler.load_state_dict({**wrapper.loss_scaler.state_dict(), "scale": 1.0})
    net.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFiniteError, match=r"the scale of the loss fell to 0\.5"):
        wrapper.update_params(net(torch.ones(1, 2)).sum())
