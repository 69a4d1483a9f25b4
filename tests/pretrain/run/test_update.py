"""The fused form of optimizers on a GPU, and the norm of gradients."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.run.update import fuse_on_gpu, total_norm


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_groups_on_a_gpu_are_updated_in_one_kernel(kind: Any) -> None:
    with FakeTensorMode():
        on_gpu, on_cpu = (nn.Parameter(torch.empty(2, device=d)) for d in ("cuda", "cpu"))
    optimizer = kind([{"params": [on_gpu]}, {"params": [on_cpu]}], lr=1e-3)
    fuse_on_gpu(optimizer)
    assert [group["fused"] for group in optimizer.param_groups] == [True, None]
    # Fabric refuses to unscale gradients, so to clip them in fp16, where this is set
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)


def test_the_fused_form_computes_the_same_and_resumes() -> None:
    """The groups' flag is what torch's step reads, shown on the CPU's fused kernel."""

    def steps(fused: bool, count: int, state: dict[str, Any] | None = None) -> Any:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.linspace(-1, 1, 12) if state is None else state["weight"])
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        if fused:
            optimizer.param_groups[0].update(fused=True, foreach=False)
        if state is not None:
            optimizer.load_state_dict(state["optimizer"])
        for _ in range(count):
            optimizer.zero_grad()
            (weight.sin() ** 2).sum().backward()
            optimizer.step()
        return {"weight": weight.detach().clone(), "optimizer": optimizer.state_dict()}

    plain, fused = steps(False, 5), steps(True, 5)
    torch.testing.assert_close(fused["weight"], plain["weight"], rtol=1e-5, atol=1e-6)
    resumed = steps(True, 2, steps(True, 3))
    assert torch.equal(resumed["weight"], fused["weight"])


def test_the_norm_is_of_all_gradients_together() -> None:
    weights = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
        nn.Parameter(torch.ones(1)),
    ]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert total_norm(weights).item() == pytest.approx(5.0)
    assert total_norm(weights[2:]).item() == 0.0
