"""FCMAE: both paths alike, the loss, the initialisations, a norm that is safe at zero."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pretrain.methods.fcmae import FCMAE
from pretrain.methods.pixels import patchify

TINY: dict[str, Any] = {
    "arch": "convnextv2_atto",
    "arch_args": {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 16]},
    "image_size": 96,
    "decoder_width": 24,
}


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 96, 96, generator=generator)
    rank = torch.rand(2, 9, generator=generator).argsort(1).argsort(1)
    return images, (rank < count).view(2, 1, 3, 3)


@pytest.mark.parametrize("conv_mlp", [False, True])
def test_both_paths_train_alike(conv_mlp: bool) -> None:
    options = TINY | {"arch_args": TINY["arch_args"] | {"conv_mlp": conv_mlp}}
    torch.manual_seed(0)
    patches, dense = FCMAE(**options).double(), FCMAE(**options, sparse="dense").double()
    for name, parameter in patches.named_parameters():
        if ".grn." in name:
            torch.nn.init.normal_(parameter)  # zero at the start: it would hide GRN
    dense.load_state_dict(patches.state_dict())
    images, visible = batch()
    losses = [model(images.double(), visible) for model in (patches, dense)]
    assert abs(losses[0] - losses[1]) < 1e-12
    for loss in losses:
        loss.backward()
    for (name, ours), theirs in zip(patches.named_parameters(), dense.parameters(), strict=True):
        assert ours.grad is not None, name
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-12), name


def test_the_loss_is_that_of_the_prediction() -> None:
    model = FCMAE(**TINY)
    images, visible = batch()
    target = patchify(images, 32)
    mean, std = target.mean(-1, keepdim=True), (target.var(-1, keepdim=True) + 1e-6).sqrt()
    prediction = model.predict(images, visible)
    error = (prediction - (target - mean) / std).square().mean(-1)
    expected = error[~visible.flatten(1)].mean()
    assert model(images, visible).item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_and_picture_without_normalised_patches() -> None:
    """norm_pix_loss=False of models/fcmae.py: the target is the patch itself."""
    model = FCMAE(**TINY, norm_pix_loss=False)
    images, visible = batch()
    prediction = model.predict(images, visible)
    error = (prediction - patchify(images, 32)).square().mean(-1)
    expected = error[~visible.flatten(1)].mean()
    assert model(images, visible).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(patchify(model.reconstruct(images, visible), 32), prediction)


def test_grn_is_per_image() -> None:
    """An image's features do not depend on its neighbours in the batch."""
    model = FCMAE(**TINY)
    for name, parameter in model.named_parameters():
        if ".grn." in name:
            torch.nn.init.normal_(parameter)
    images, visible = batch()
    alone = model.features(images[:1], visible[:1])[-1]
    together = model.features(images, visible)[-1][:1]
    assert torch.allclose(alone, together, atol=1e-6)


def test_gradients_are_finite_where_a_channel_is_zero() -> None:
    model = FCMAE(**TINY)
    images, visible = batch()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
    model(images, visible).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_initialisations_differ_as_named() -> None:
    torch.manual_seed(0)
    paper, release = FCMAE(**TINY), FCMAE(**TINY, init="release")

    def std(model: FCMAE, name: str) -> float:
        return float(model.get_parameter(name).detach().std())

    kernel = "encoder.stages.2.blocks.0.conv_dw.weight"
    assert std(paper, kernel) == pytest.approx(0.02, rel=0.15)
    assert std(release, kernel) == pytest.approx(0.88, rel=0.15)  # cut at +-2 std
    downsampling = "encoder.stages.1.downsample.1.weight"
    assert std(release, downsampling) == pytest.approx(0.02, rel=0.15)
    with pytest.raises(ValueError, match=r"std_0\.02"):
        FCMAE(**TINY, init="paper")


def test_counts_pictures_and_encoder_file() -> None:
    assert FCMAE(**TINY | {"image_size": 224}).n_visible == 19
    model = FCMAE(**TINY)
    images, visible = batch()
    assert model.reconstruct(images, visible).shape == images.shape
    assert not [n for n in model.encoder_state() if n.startswith("head")]
