"""Visible patches as the batch against the dense-masked reference, in float64, family by family."""

import copy
import re
from typing import Any

import pytest
import torch
from timm.layers import SEModule
from torch import Tensor, nn

from pretrain import kernels
from pretrain.encoders import build_encoder
from pretrain.sparse import DenseView, MaskedEncoder, MaskSlot, mask_layers

RESNET = {"layers": [1, 2, 1, 1], "channels": [8, 12, 20, 16]}
CONVNEXT = {"depths": [1, 2, 1, 1], "dims": [8, 12, 20, 16]}
REGNET = {"w0": 8, "wa": 8, "wm": 2.0, "depth": 6, "group_size": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet, basic blocks": ("resnet18", RESNET),
    "resnet, bottlenecks": ("resnet50", RESNET),
    "resnext": ("resnext50_32x4d", RESNET | {"cardinality": 2, "base_width": 32}),
    "resnet-d: deep stem, average pooling": ("resnet50d", RESNET),
    "convnext, layer scale": ("convnext_tiny", CONVNEXT | {"ls_init_value": 0.5}),
    "convnext, overlapping stem": ("convnext_tiny", CONVNEXT | {"stem_type": "overlap_tiered"}),
    "convnext v2, linear mlp": ("convnextv2_tiny", CONVNEXT | {"conv_mlp": False}),
    "convnext v2, conv mlp": ("convnextv2_tiny", CONVNEXT | {"conv_mlp": True}),
    "convnext v2, kernels 3 to 9": ("convnextv2_tiny", CONVNEXT | {"kernel_sizes": (9, 7, 5, 3)}),
    "regnet x": ("regnetx_002", {}),
    "mobilenet v2": ("mobilenetv2_050", {}),
    "efficientnet lite, same padding": ("tf_efficientnet_lite0", {}),
}
EXCITED: dict[str, tuple[str, dict[str, Any]]] = {
    "se-resnet": ("seresnet18", RESNET),
    "regnet y": ("regnety_002", REGNET | {"se_ratio": 0.25}),
    "efficientnet": ("efficientnet_b0", {}),
    "mobilenet v3": ("mobilenetv3_small_050", {}),
    "ghostnet": ("ghostnet_050", {}),
    "rexnet, norms inside": ("rexnet_100", {"width_mult": 0.5}),
    "vovnet, effective": ("ese_vovnet19b_slim_dw", {}),
}
FAMILIES |= EXCITED


def masks(batch: int, grid: tuple[int, int], count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(batch, grid[0] * grid[1], generator=generator).argsort(1).argsort(1)
    return (rank < count).view(batch, 1, *grid)


def randomise(module: nn.Module) -> None:
    """Every parameter away from zeros and ones, so that none hides a mistake."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = noise * (2 / fan_in) ** 0.5 + is_scale


def both(arch: str, arch_args: dict[str, Any], drop_path: float = 0.0) -> list[MaskedEncoder]:
    encoder = build_encoder(arch, arch_args, drop_path).double()
    randomise(encoder)
    return [MaskedEncoder(copy.deepcopy(encoder), sparse) for sparse in ("patches", "dense")]


def run(masked: MaskedEncoder, images: Tensor, visible: Tensor) -> tuple[list[Tensor], Tensor]:
    images = images.clone().requires_grad_()
    torch.manual_seed(3)  # stochastic depth draws one number an image in both forms
    view = masked.view(visible, int(visible[0].sum()))
    features = masked.densified(images, view)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(f.shape, generator=generator, dtype=f.dtype) for f in features]
    sum((f * w).sum() for f, w in zip(features, weights, strict=True)).backward()
    assert images.grad is not None
    return features, images.grad


def gap(ours: Tensor, reference: Tensor) -> float:
    ours, reference = ours.detach(), reference.detach()
    return float((ours - reference).abs().max() / reference.abs().max().clamp(min=1e-12))


def assert_equal(
    patches: MaskedEncoder, dense: MaskedEncoder, images: Tensor, seen: Tensor
) -> None:
    (features, image_grad), (expected, expected_grad) = (
        run(masked, images, seen) for masked in (patches, dense)
    )
    for ours, reference in zip(features, expected, strict=True):
        assert gap(ours, reference) < 1e-10
    assert gap(image_grad, expected_grad) < 1e-10
    reference = dict(dense.encoder.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in reference.values() if p.grad is not None)
    for name, parameter in patches.encoder.named_parameters():
        assert parameter.grad is not None, name
        difference = (parameter.grad - reference[name].grad).abs().max()
        assert difference < 1e-10 * largest, name
    for (name, ours), theirs in zip(
        patches.encoder.named_buffers(), dense.encoder.buffers(), strict=True
    ):
        assert gap(ours.double(), theirs.double()) < 1e-10, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "as on a gpu"])
def test_patches_equal_the_dense_reference(family: str, on_cpu: bool) -> None:
    """Autocast leaves float64 as it is, and has everything done by torch, as on a GPU."""
    patches, dense = both(*FAMILIES[family])
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)).double()
    with torch.autocast("cpu", torch.bfloat16, enabled=not on_cpu):
        assert kernels.on_cpu(images) == on_cpu
        assert_equal(patches, dense, images, masks(2, (3, 4), 5))


@pytest.mark.parametrize("family", ["resnet, basic blocks", "convnext v2, linear mlp"])
def test_stochastic_depth_drops_images(family: str) -> None:
    patches, dense = both(*FAMILIES[family], drop_path=0.5)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    assert_equal(patches, dense, images, masks(4, (2, 2), 2))


def test_without_a_mask_the_encoder_is_timms() -> None:
    arch, arch_args = FAMILIES["convnext v2, linear mlp"]
    plain = build_encoder(arch, arch_args).eval()
    masked = MaskedEncoder(copy.deepcopy(plain))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(masked.encoder(images), plain(images))
    assert masked.slot.view is None


def test_the_mask_does_not_stay_behind() -> None:
    masked = MaskedEncoder(build_encoder("resnet18", RESNET))
    visible = masks(1, (2, 2), 2)
    masked(torch.randn(1, 3, 64, 64), masked.view(visible, 2))
    assert masked.slot.view is None
    with pytest.raises(RuntimeError):
        masked(torch.randn(1, 5, 64, 64), masked.view(visible, 2))
    assert masked.slot.view is None


def test_masked_pixels_cannot_be_seen() -> None:
    masked = MaskedEncoder(build_encoder("resnet18", RESNET).eval())
    visible = masks(1, (3, 3), 4)
    images = torch.randn(1, 3, 96, 96)
    hidden = ~visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
    other = torch.where(hidden, torch.randn_like(images), images)
    for a, b in zip(
        masked(images, masked.view(visible, 4)), masked(other, masked.view(visible, 4)), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("family", EXCITED)
@pytest.mark.parametrize("sparse", ["patches", "dense"])
def test_masked_pixels_excite_nothing(family: str, sparse: Any) -> None:
    """In training mode: neither means of squeeze-excitation nor norms see masked pixels."""
    encoder = build_encoder(*FAMILIES[family])
    randomise(encoder)
    masked = MaskedEncoder(encoder.train(), sparse)
    visible = masks(2, (2, 3), 3)
    generator = torch.Generator().manual_seed(0)
    images, others = torch.randn(2, 2, 3, 64, 96, generator=generator).unbind()
    hidden = ~visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
    changed = torch.where(hidden, others, images)
    before, after = (masked.densified(x, masked.view(visible, 3)) for x in (images, changed))
    for one, other in zip(before, after, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_squeeze_excitation_takes_the_mean_of_visible_positions() -> None:
    """The definition of github.com/keyu-tian/SparK/issues/54, position by position."""
    layer = SEModule(4, rd_channels=2).double()
    randomise(layer)
    visible = masks(2, (2, 2), 2)
    x = torch.randn(2, 4, 4, 4, dtype=torch.double) * DenseView(visible, 2, 2).mask_of(4)
    expected = torch.zeros_like(x)
    for image in range(2):
        seen = DenseView(visible, 2, 2).mask_of(4)[image, 0]
        mean = x[image][:, seen].mean(1).view(1, 4, 1, 1)
        gate = layer.gate(layer.fc2(layer.act(layer.fc1(mean))))
        expected[image] = x[image] * gate[0]
    holder, slot = nn.Sequential(layer), MaskSlot()
    mask_layers(holder, slot, "dense")
    with slot.using(DenseView(visible, 2, 2)):
        assert gap(holder(x), expected) < 1e-12


@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("skresnet18", "'layer1.0.conv1.attn.fc_reduce"),
        ("ecaresnet26t", "'layer1.0.se' (EcaModule)"),
        ("resnet50_gn", "'bn1' (GroupNorm)"),
        ("coatnet_0_224", "'stages.2.blocks.0.attn"),
        ("resnetblur18", "(BlurPool2d)"),
    ],
)
def test_layers_that_look_further_are_named(arch: str, layer: str) -> None:
    with pytest.raises(ValueError, match=re.escape(layer)):
        MaskedEncoder(build_encoder(arch))


def test_constructing_draws_no_random_numbers_and_keeps_the_mode() -> None:
    encoder = build_encoder("resnet18", RESNET).train()
    state = torch.get_rng_state()
    before = copy.deepcopy(encoder.state_dict())
    MaskedEncoder(encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in encoder.modules())
    assert all(torch.equal(t, before[n]) for n, t in encoder.state_dict().items())


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="'patches' or 'dense'"):
        MaskedEncoder(build_encoder("resnet18", RESNET), "sparse")  # type: ignore[arg-type]
