"""The form for GPUs: equal to the gather of the CPU, and no gradient added twice to one row."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.sparse.canvas import canvas_conv, visible_windows
from pretrain.sparse.patches import layer_halo
from pretrain.sparse.rows import fill_rows, select_rows
from pretrain.sparse.view import PatchView, Reach

RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 32]}


def view(count: int = 5) -> PatchView:
    generator = torch.Generator().manual_seed(0)
    rank = torch.rand(3, 12, generator=generator).argsort(1).argsort(1)
    return PatchView((rank < count).view(3, 1, 3, 4), patch=8, count=count)


def feature(size: int, channels: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(15, channels, size, size, generator=generator).double().requires_grad_()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("reach", [((1, 1), (1, 1)), ((3, 3), (3, 3)), ((3, 2), (0, 1))])
def test_windows_hold_what_a_gather_finds(size: int, reach: Reach) -> None:
    """Forward and backward, against plain indexing by the table of rows."""
    masked, x, grads = view(), feature(size), []
    rows = x.permute(0, 2, 3, 1).reshape(-1, 4)
    missing = torch.tensor([[0.0], [-7.0]]).double().expand(-1, 4)
    gathered = torch.cat((rows, missing))[masked.rows_of_window(size, *reach)]
    windows = visible_windows(x, masked, reach, outside=-7.0)
    assert torch.equal(windows, gathered.permute(0, 3, 1, 2))
    weights = torch.randn(windows.shape, generator=torch.Generator().manual_seed(2)).double()
    for form in (windows, gathered.permute(0, 3, 1, 2)):
        grads += torch.autograd.grad((form * weights).sum(), x)
    assert torch.allclose(*grads, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (4, 3, 1), (2, 7, 1), (1, 7, 1)])
def test_a_depthwise_convolution_of_the_whole_map(size: int, kernel: int, stride: int) -> None:
    """Equal to that of the windows, forward and backward."""
    masked, x = view(), feature(size)
    conv = nn.Conv2d(4, 4, kernel, stride, padding=kernel // 2, groups=4).double()
    reach = layer_halo(conv)
    windows = visible_windows(x, masked, reach)
    expected = nn.functional.conv2d(windows, conv.weight, conv.bias, stride, groups=4)
    ours = canvas_conv(x, conv, masked, reach)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-13)
    grads = [torch.autograd.grad(form.square().sum(), x)[0] for form in (ours, expected)]
    assert torch.allclose(*grads, rtol=0, atol=1e-12)


def test_rows_have_their_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(9, generator=generator)[:5]
    rows, fill = torch.randn(9, 3).double(), torch.randn(3).double()
    assert torch.autograd.gradcheck(lambda x: select_rows(x, index), rows.requires_grad_())
    inputs = (fill.requires_grad_(), rows[:5].detach().requires_grad_())
    assert torch.autograd.gradcheck(lambda f, x: fill_rows(f, 9, index, x), inputs)


def test_a_fills_gradient_is_exact_in_bfloat16() -> None:
    """A sum over 100,000 masked cells; added one by one it would stop growing at 256."""
    index, fill = torch.arange(10), torch.zeros(2, requires_grad=True)
    rows = torch.zeros(10, 2, dtype=torch.bfloat16)
    filled = fill_rows(fill, 100_010, index, rows).bfloat16()
    filled.backward(torch.ones_like(filled))
    assert fill.grad is not None
    assert torch.allclose(fill.grad, torch.tensor(100_000.0), rtol=2**-8)


class NoCollisions(TorchDispatchMode):
    """Refuses to add to one place of a tensor through two equal indices."""

    checked = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.strip("_")
        if name in ("index_put", "index_put_impl", "unsafe_index_put"):
            self.check(torch.stack(torch.broadcast_tensors(*args[1])).flatten(1))
        elif name in ("index_add", "index_copy", "scatter_add"):
            self.check(args[2].flatten()[None])
        return func(*args, **(kwargs or {}))

    def check(self, places: Tensor) -> None:
        self.checked += 1
        assert len(places.unique(dim=1).T) == len(places.T), "an index occurs twice"


@pytest.mark.parametrize(
    ("method", "arch", "arch_args"),
    [
        (SparK, "resnet50", RESNET),
        (SparK, "convnext_tiny", CONVNEXT),
        (FCMAE, "convnextv2_atto", CONVNEXT),
    ],
)
def test_no_index_occurs_twice(method: Any, arch: str, arch_args: dict[str, Any]) -> None:
    """Under autocast everything is done by torch, as on a GPU."""
    torch.manual_seed(0)
    model = method(arch=arch, arch_args=arch_args, image_size=96, decoder_width=32)
    visible = (torch.arange(18).mul(5) % 9 < model.n_visible).view(2, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), NoCollisions() as forward:
        loss = model(torch.randn(2, 3, 96, 96), visible)
    with NoCollisions() as backward:
        loss.backward()
    assert forward.checked > 4
    assert backward.checked > 0
