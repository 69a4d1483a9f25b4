"""torch.compile takes every method whole, without a graph break or a shape that it cannot know."""

from typing import Any

import pytest
import torch

from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK

SIZES = {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 32]}
RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]}


@pytest.mark.parametrize("sparse", ["patches", "dense"])
@pytest.mark.parametrize(
    ("method", "arch", "arch_args"),
    [(SparK, "resnet18", RESNET), (FCMAE, "convnextv2_atto", SIZES)],
    ids=["spark", "fcmae"],
)
def test_compiled_as_it_is(method: Any, arch: str, arch_args: dict[str, Any], sparse: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = method(
        arch=arch, arch_args=arch_args, image_size=96, decoder_width=32, sparse=sparse
    ).double()
    images = torch.randn(2, 3, 96, 96).double()
    visible = (torch.arange(18).mul(5) % 9 < model.n_visible).view(2, 1, 3, 3)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    results = []
    for form in (model, compiled):
        model.zero_grad()
        loss = form(images, visible)
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    for ours, reference in zip(*results, strict=True):
        assert torch.allclose(ours, reference, rtol=1e-10, atol=1e-12)
