"""Our backbone against MMSegmentation's own BEiT and MAE and their pyramid, on the same weights."""

import re

import pytest
import torch
from mmseg.models.backbones import MAE, BEiT
from mmseg.models.necks import Feature2Pyramid

from transfer.segmentation.backbone import TimmBackbone
from transfer.segmentation.config import fill_in, load_config

RENAMES = (
    (r"^layers\.", "blocks."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"ffn\.layers\.0\.0", "mlp.fc1"),
    (r"ffn\.layers\.1", "mlp.fc2"),
    (r"patch_embed\.projection", "patch_embed.proj"),
)


def timm_name(name: str) -> str:
    for pattern, new in RENAMES:
        name = re.sub(pattern, new, name)
    return name


@pytest.fixture
def pair():
    """MMSegmentation's BEiT with its pyramid, and ours with the same weights, 64 px, 4 blocks."""
    torch.manual_seed(0)
    theirs = BEiT(
        img_size=(64, 64),
        embed_dims=24,
        num_layers=4,
        num_heads=2,
        out_indices=(0, 1, 2, 3),
        qv_bias=True,
        init_values=0.1,
        norm_cfg={"type": "LN", "eps": 1e-6},
    )
    theirs.eval()  # returns nothing
    pyramid = Feature2Pyramid(24, rescales=[4, 2, 1, 0.5], norm_cfg={"type": "BN"})
    pyramid.eval()
    for parameter in [*theirs.parameters(), *pyramid.parameters()]:
        torch.nn.init.normal_(parameter, std=0.3)
    arch_args = {"embed_dim": 24, "depth": 4, "num_heads": 2, "img_size": 64}
    vit = {"pyramid": "blocks", "blocks": (0, 1, 2, 3)}
    ours = TimmBackbone("none", "beit_base_patch16_224", arch_args, vit=vit).eval()
    encoder = ours.features.encoder.state_dict()
    state = {timm_name(n): t for n, t in theirs.state_dict().items()}
    index = [n for n in encoder if n.endswith("relative_position_index")]
    missing, spare = ours.features.encoder.load_state_dict(state, strict=False)
    assert set(missing) <= {*index, *(n for n in encoder if n.endswith("k_bias"))}
    assert not [n for n in spare if not n.endswith("relative_position_index")]
    up, own = pyramid.state_dict(), ours.features.pyramid.state_dict()
    ours.features.pyramid.load_state_dict(dict(zip(own, up.values(), strict=True)))
    return theirs, pyramid, ours


def test_equal_at_the_size_of_the_weights(pair):
    theirs, pyramid, ours = pair
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = pyramid(theirs(images))
        got = ours(images)
    assert len(expected) == len(got) == 4
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_gradients_are_equal(pair):
    theirs, pyramid, ours = pair
    images = torch.randn(1, 3, 64, 64)
    for maps in (pyramid(theirs(images)), ours(images)):
        sum(m.square().mean() for m in maps).backward()
    grads = {timm_name(n): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    own = dict(ours.features.encoder.named_parameters())
    assert set(grads) >= {"patch_embed.proj.weight", "blocks.3.mlp.fc2.weight", "cls_token"}
    for name, grad in grads.items():
        scale = grad.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(own[name].grad / scale, grad / scale, rtol=1e-4, atol=1e-4)


def test_mae_is_mmsegmentations():
    """The net of mmsegmentation's MAE recipe: tables of zeros, layer scales of 1, biases of k."""
    torch.manual_seed(0)
    sizes = {"img_size": (64, 64), "embed_dims": 64, "num_layers": 4, "num_heads": 1}
    theirs = MAE(
        **sizes, out_indices=(0, 1, 2, 3), init_values=1.0, norm_cfg={"type": "LN", "eps": 1e-6}
    )
    theirs.eval()  # returns nothing
    cfg = load_config("configs/segmentation/mae_base_upernet_512.py", ["image_size=64"])
    vit = {**fill_in(cfg).model.backbone.vit, "pyramid": None, "blocks": (0, 1, 2, 3)}
    arch_args = {"embed_dim": 64, "depth": 4, "num_heads": 1}
    ours = TimmBackbone("none", "vit_base_patch16_224", arch_args, vit=vit).eval()
    own = dict(ours.features.encoder.named_parameters())
    given = {mae_name(name): p for name, p in theirs.named_parameters()}
    assert set(own) == set(given)
    for name in own:
        if name.endswith((".gamma", "_table")):
            assert torch.equal(own[name], given[name]), f"{name} does not begin as theirs"
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.features.encoder.load_state_dict(given, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def mae_name(name: str) -> str:
    """A name of MMSegmentation's MAE in timm's words for a ViT."""
    return re.sub(r"\.gamma_(\d)$", r".ls\1.gamma", timm_name(name))
