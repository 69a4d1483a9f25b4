"""The C kernels and the products against plain PyTorch, and life without a compiler."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain import kernels
from pretrain.kernels import build
from pretrain.kernels.convolution import conv3x3, norm_conv
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.methods.spark_decoder import DecoderBlock
from pretrain.sparse.products import transposed_conv

needs_kernels = pytest.mark.skipif(not kernels.available(), reason="no C compiler here")


def gap(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).detach().abs().max() / reference.detach().abs().max())


@needs_kernels
@pytest.mark.parametrize("channels", [5, 32, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_depthwise_over_entries(channels: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(40, channels, dtype=dtype), torch.randn(9, channels, dtype=dtype)
    bias, grad = torch.randn(channels, dtype=dtype), torch.randn(40, channels, dtype=dtype)
    windows = torch.randint(0, 60, (40, 9))  # 40 and above: not there
    entries = kernels.window_entries(windows, 40)
    seen = torch.cat((rows, rows.new_zeros(20, channels)))[windows]  # (40, 9, C)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    out = kernels.depthwise(rows, weight, bias, *entries)
    assert gap(out, (seen * weight).sum(1) + bias) < tolerance
    by_weight = kernels.depthwise_weight_grad(rows, grad, *entries, 9)
    assert gap(by_weight, (seen * grad[:, None]).sum(0)) < tolerance


@needs_kernels
@pytest.mark.parametrize("shape", [(2, 7, 30, 5, 6), (1, 4, 24, 1, 9), (2, 70, 100, 3, 2)])
def test_conv3x3(shape: tuple[int, ...]) -> None:
    batch, channels, out_channels, height, width = shape
    torch.manual_seed(0)
    results = []
    for function in (conv3x3, lambda x, w, b: F.conv2d(x, w, b, padding=1)):
        torch.manual_seed(0)
        x = torch.randn(batch, channels, height, width).double().requires_grad_()
        weight = torch.randn(out_channels, channels, 3, 3).double().requires_grad_()
        bias = torch.randn(out_channels).double().requires_grad_()
        out = function(x, weight, bias)
        (out * torch.randn(out.shape).double()).sum().backward()
        results.append((out, x.grad, weight.grad, bias.grad))
    for ours, reference in zip(*results, strict=True):
        assert gap(ours, reference) < 1e-12


@pytest.mark.parametrize(("kernel", "relu6"), [(3, True), (1, False)])
def test_norm_conv_is_the_norm_then_the_convolution(kernel: int, relu6: bool) -> None:
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        norm = torch.nn.BatchNorm2d(6).double()
        torch.nn.init.normal_(norm.weight, std=3)  # so that ReLU6 cuts at both ends
        torch.nn.init.normal_(norm.bias)
        conv = torch.nn.Conv2d(6, 4, kernel, padding=kernel // 2).double()
        x = torch.randn(2, 6, 5, 4).double().requires_grad_()
        if fused:
            out = norm_conv(x, norm, conv, torch.nn.ReLU6() if relu6 else None)
        else:
            out = conv(F.relu6(norm(x)) if relu6 else norm(x))
        (out * torch.randn(out.shape).double()).sum().backward()
        parameters = (*norm.parameters(), *conv.parameters())
        results.append([out, x.grad, *(p.grad for p in parameters), *norm.buffers()])
    for ours, reference in zip(*results, strict=True):
        assert ours.dtype == reference.dtype
        assert gap(ours, reference) < 1e-12


def test_transposed_convolution_as_a_product() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 5).double(), torch.randn(3, 6, 4, 4).double()
    bias = torch.randn(6).double()
    reference = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    assert gap(transposed_conv(x, weight, bias), reference) < 1e-13
    assert torch.autograd.gradcheck(
        transposed_conv,
        [t[:1].clone().requires_grad_() for t in (x,)]
        + [weight.requires_grad_(), bias.requires_grad_()],
    )


def test_merged_decoder_block_is_the_two_convolutions() -> None:
    block = DecoderBlock(6, merge=True).double()
    torch.nn.init.normal_(block.up.bias)
    results = []
    for form in (block.up_conv, lambda x: block.conv1(block.up(x))):
        torch.manual_seed(0)
        block.zero_grad()
        x = torch.randn(2, 6, 5, 4).double().requires_grad_()
        out = form(x)
        (out * torch.randn(out.shape).double()).sum().backward()
        gradients = [p.grad.clone() for p in block.parameters() if p.grad is not None]
        results.append([out, x.grad, *gradients])
    for ours, reference in zip(*results, strict=True):
        assert gap(ours, reference) < 1e-12


@pytest.mark.parametrize("method", [SparK, FCMAE])
def test_without_kernels_it_is_the_same(
    method: type[SparK] | type[FCMAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = "convnextv2_atto"
    arch_args = {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 16]}
    model = method(arch=arch, arch_args=arch_args, image_size=64, decoder_width=32).double()
    images = torch.randn(2, 3, 64, 64).double()
    visible = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1]]).bool().view(2, 1, 2, 2)
    losses, gradients = [], []
    for setting in ("1", "0"):
        monkeypatch.setenv("MIM_TRANSFER_KERNELS", setting)
        build.library.cache_clear()
        model.zero_grad()
        losses.append(model(images, visible))
        losses[-1].backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    build.library.cache_clear()
    assert gap(losses[0], losses[1]) < 1e-12
    assert all(torch.allclose(a, b, rtol=0, atol=1e-11) for a, b in zip(*gradients, strict=True))


def test_no_compiler_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    build.library.cache_clear()
    monkeypatch.setattr(build.shutil, "which", lambda _name: None)
    assert not kernels.supports(torch.zeros(1))
    build.library.cache_clear()


@needs_kernels
def test_a_broken_compiler_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build.library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", ["-no-such-flag"])
    assert build.library() is None
    build.library.cache_clear()
