"""A step of every method as a GPU would run it: on one device, and the host never waits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from pretrain.config import Augmentation
from pretrain.config.tokenizer import VAESizes
from pretrain.data.batches import Batch
from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.sparse.canvas import VisibleWindows
from pretrain.sparse.response_norm import ResponseNorm
from pretrain.sparse.rows import FillRows, SelectRows
from pretrain.tokenizer.vae import DiscreteVAE
from tests.gpu_form import CUDA, HostWaitError, fake_gpu, gradients, put_on_gpu

RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 32]}
VIT = {"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16, "init_values": 0.1}
CONVNETS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "spark": (SparK, "resnet50", RESNET),
    "spark convnext": (SparK, "convnext_tiny", CONVNEXT),
    "spark deep stem": (SparK, "resnet50d", RESNET),
    "spark mobilenet": (SparK, "mobilenetv2_050", {}),
    "fcmae": (FCMAE, "convnextv2_atto", CONVNEXT),
}


def convnet(name: str, sparse: str) -> Any:
    method, arch, arch_args = CONVNETS[name]
    return method(
        arch=arch,
        arch_args=arch_args,
        image_size=96,
        decoder_width=32,
        drop_path_rate=0.2,
        sparse=sparse,
    )


def batch(size: int, grid: int, tokens: int | None = None) -> Batch:
    """As the loader hands it over, on the host."""
    bytes_of = lambda side: torch.zeros(4, 3, side, side, dtype=torch.uint8)  # noqa: E731
    visible = torch.zeros(4, 1, grid, grid, dtype=torch.bool)
    return Batch(bytes_of(size), visible, None if tokens is None else bytes_of(tokens))


@pytest.mark.parametrize("sparse", ["patches", "dense"])
@pytest.mark.parametrize("name", CONVNETS)
def test_a_convnets_step(name: str, sparse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = convnet(name, sparse)
    with fake_gpu(monkeypatch):
        put_on_gpu(method)
        loss = method(*batch(96, 3).inputs(CUDA, Augmentation()))
    assert loss.device == CUDA
    assert loss.dtype == torch.float32


def test_beits_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = DiscreteVAE(VAESizes(vocab_size=32, n_hid=8, n_blk_per_group=1, n_init=8)).eval()
    method = BEiT(arch_args=VIT, image_size=64, tokenizer=tokenizer)
    with fake_gpu(monkeypatch):
        put_on_gpu(method)
        put_on_gpu(tokenizer)
        scores = method(*batch(64, 4, tokens=32).inputs(CUDA, Augmentation()))
    assert {score.device for score in scores.values()} == {CUDA}
    assert {score.dtype for score in scores.values()} == {torch.float32}


@pytest.mark.parametrize("sparse", ["patches", "dense"])
def test_response_norm_keeps_the_type(sparse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sums are float32; its result, four times as wide as the feature maps, is not."""
    method = convnet("fcmae", sparse)
    types: list[torch.dtype] = []
    norm = method.encoder.stages[0].blocks[0].mlp.grn
    norm.register_forward_hook(lambda _module, _inputs, out: types.append(out.dtype))
    with fake_gpu(monkeypatch):
        put_on_gpu(method)
        method(*batch(96, 3).inputs(CUDA, Augmentation()))
    assert types == [torch.bfloat16]


FLOATS = {"device": CUDA, "dtype": torch.bfloat16}


def index(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long, device=CUDA)


def test_backward_passes_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gradient has its input's shape, type and device."""
    with fake_gpu(monkeypatch, autocast=False):
        rows, token = torch.empty(12, 8, **FLOATS), torch.empty(8, device=CUDA)
        places = (index(4), index(4), index(4))
        canvas, wide = torch.empty(2, 14, 14, 8, **FLOATS), torch.empty(2, 9, 8, **FLOATS)
        calls = [
            (SelectRows, (rows, index(5))),
            (FillRows, (token, 20, index(12), rows)),
            (VisibleWindows, (canvas, (6, 6), 4, *places)),
            (VisibleWindows, (canvas, (8, 8), 2, *places)),
            (ResponseNorm, (wide, token, token, 1e-6)),
        ]
        for function, inputs in calls:
            _, grads = gradients(function, *inputs)
            for given, grad in zip(inputs, grads, strict=True):
                if isinstance(given, Tensor) and given.is_floating_point():
                    assert grad is not None
                    assert (grad.shape, grad.dtype) == (given.shape, given.dtype), function
                    assert grad.device == CUDA


def test_the_fake_gpu_notices_a_host_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch):
        x = torch.empty(3, device=CUDA)
        with pytest.raises(DataDependentOutputException):
            bool(x.max())
        with pytest.raises(HostWaitError):
            x.cpu()
        with pytest.raises(HostWaitError):
            torch.empty(3).to(CUDA)
        with pytest.raises(RuntimeError):
            x + torch.empty(3)
