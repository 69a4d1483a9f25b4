"""SparK: both paths alike, losses on masked patches only, parameter counts, pictures."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from pretrain.methods.pixels import patchify, unpatchify
from pretrain.methods.spark import SparK
from tools.benchmarks.pretrain import activation_bytes

TINY: dict[str, Any] = {
    "arch": "resnet18",
    "arch_args": {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]},
    "image_size": 96,
    "decoder_width": 32,
}
CONVNEXT: dict[str, Any] = TINY | {
    "arch": "convnext_tiny",
    "arch_args": {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 32]},
}
EXCITED: dict[str, Any] = TINY | {"arch": "mobilenetv3_small_050", "arch_args": {}}


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 96, 96, generator=generator)
    rank = torch.rand(2, 9, generator=generator).argsort(1).argsort(1)
    return images, (rank < count).view(2, 1, 3, 3)


def pair(options: dict[str, Any]) -> tuple[SparK, SparK]:
    torch.manual_seed(0)
    patches, dense = SparK(**options).double(), SparK(**options, sparse="dense").double()
    dense.load_state_dict(patches.state_dict())
    return patches, dense


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "as on a gpu"])
@pytest.mark.parametrize(
    "options", [TINY, CONVNEXT, EXCITED], ids=["resnet", "convnext", "squeeze-excitation"]
)
def test_both_paths_train_alike(options: dict[str, Any], on_cpu: bool) -> None:
    """Autocast leaves float64 as it is, and has everything done by torch, as on a GPU."""
    patches, dense = pair(options)
    images, visible = batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=not on_cpu):
        losses = [model(images.double(), visible) for model in (patches, dense)]
    assert abs(losses[0] - losses[1]) < 1e-12
    for loss in losses:
        loss.backward()
    for (name, ours), theirs in zip(patches.named_parameters(), dense.parameters(), strict=True):
        assert ours.grad is not None, name
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-12), name
    for (name, ours), theirs in zip(patches.named_buffers(), dense.buffers(), strict=True):
        assert torch.allclose(ours.double(), theirs.double(), rtol=0, atol=1e-12), name


def test_activation_memory() -> None:
    """Fewer than half of the bytes of the dense path at 6 of 16 patches, as at 224 px."""
    options = TINY | {"arch": "resnet50", "arch_args": {"layers": [1, 1, 1, 1]}, "image_size": 128}
    images = torch.randn(2, 3, 128, 128)
    visible = (torch.arange(16) < 6).view(1, 1, 4, 4).expand(2, -1, -1, -1)
    kept = [
        activation_bytes(lambda model=model: model(images, visible), model)
        for model in (SparK(**options, sparse=sparse) for sparse in ("patches", "dense"))
    ]
    assert kept[0] < 0.5 * kept[1]


def test_the_loss_is_that_of_the_prediction() -> None:
    """Mean over masked patches of the squared error to the patch, normalised by itself."""
    model = SparK(**TINY).eval()
    images, visible = batch()
    target = patchify(images, 32)
    mean, std = target.mean(-1, keepdim=True), (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (patchify(model.predict(images, visible), 32) - (target - mean) / std).square().mean(-1)
    expected = error[~visible.flatten(1)].mean()
    assert model(images, visible).item() == pytest.approx(expected.item(), rel=1e-5)


def test_masked_pixels_matter_only_as_targets() -> None:
    model = SparK(**TINY).eval()
    images, visible = batch()
    hidden = ~visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
    other = torch.where(hidden, torch.zeros(()), images)
    assert torch.equal(model.predict(images, visible), model.predict(other, visible))
    assert model(images, visible) != model(other, visible)


def test_reconstruction_is_in_the_pixel_space_of_the_images() -> None:
    model = SparK(**TINY).eval()
    images, visible = batch()
    images = images * 0.1 + 5
    prediction = patchify(model.predict(images, visible), 32)
    target = patchify(images, 32)
    std = (target.var(-1, keepdim=True) + 1e-6).sqrt()
    expected = unpatchify(prediction * std + target.mean(-1, keepdim=True), 32, (3, 3))
    assert torch.allclose(model.reconstruct(images, visible), expected, atol=1e-5)


@pytest.mark.parametrize(("arch", "total"), [("resnet50", 52.92), ("convnext_small", 74.38)])
def test_published_sizes(arch: str, total: float) -> None:
    """Parameters in millions (measured on the official code: 23.183 of them the decoder's)."""
    with torch.device("meta"):
        model = SparK(arch=arch)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(total, abs=0.005)
    assert sum(p.numel() for p in model.decoder.parameters()) / 1e6 == pytest.approx(
        23.183, abs=5e-4
    )
    assert isinstance(model.densify_projs[0], torch.nn.Identity) == (arch == "convnext_small")


def test_counts_and_sizes() -> None:
    model = SparK(**TINY | {"image_size": 224})
    assert model.n_visible == 20
    with pytest.raises(ValueError, match="not a multiple of the patch"):
        SparK(**TINY | {"image_size": 100})
    with pytest.raises(ValueError, match="multiple of 32"):
        SparK(**TINY | {"decoder_width": 40})
    images, visible = batch()
    visible[0] = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 1]]).bool()
    with pytest.raises(ValueError, match="same number of visible patches"):
        model(images, visible)


def test_encoder_state_loads_into_timm() -> None:
    model = SparK(**TINY)
    plain = timm.create_model(TINY["arch"], num_classes=0, **TINY["arch_args"])
    plain.load_state_dict(model.encoder_state())
