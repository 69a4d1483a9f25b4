"""torch.compile takes every method whole, without a graph break or a shape that it cannot know."""

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from pretrain.config.tokenizer import VAESizes
from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.tokenizer.vae import DiscreteVAE

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


def test_beit_compiles_with_its_tokenizer() -> None:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    sizes = VAESizes(vocab_size=32, n_hid=8, n_blk_per_group=1, n_init=8)
    model = BEiT(
        arch_args={"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16},
        image_size=64,
        tokenizer=DiscreteVAE(sizes).eval(),
        drop_path_rate=0.0,
    )
    model.most_masked = 9
    images, token_images = torch.randn(2, 3, 64, 64), torch.rand(2, 3, 32, 32)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    for seed in range(2):  # the shapes do not depend on the mask
        counts = torch.tensor([[9], [6 + seed]])
        ranks = torch.rand(2, 16, generator=torch.Generator().manual_seed(seed)).argsort(1)
        visible = (ranks.argsort(1) >= counts).view(2, 1, 4, 4)
        losses = [form(images, visible, token_images)["loss"] for form in (model, compiled)]
        assert torch.allclose(*losses, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
