"""TimmFeatures against timm's own intermediate maps, and on sizes timm does not take."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from transfer.features import TimmFeatures
from transfer.features.timm_features import is_plain_vit

STAGES = [
    ("resnet18", {"channels": (16, 32, 64, 128)}),
    ("resnet50", {"layers": (1, 1, 1, 1)}),
    ("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}),
    ("convnextv2_atto", {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}),
    ("regnety_002", {}),
]
VITS = [
    ("vit_tiny_patch16_224", {"img_size": (64, 96), "depth": 4}),
    ("vit_tiny_patch16_224", {"img_size": (64, 96), "depth": 4, "patch_size": 8}),
    ("beit_base_patch16_224", {"img_size": (64, 96), "embed_dim": 48, "depth": 4, "num_heads": 3}),
    ("deit_tiny_distilled_patch16_224", {"img_size": (64, 96), "depth": 2}),
    ("vit_small_patch14_reg4_dinov2", {"img_size": (64, 96), "depth": 2, "patch_size": 16}),
]


def _randomise(module: nn.Module) -> None:
    """Values in the tables and tokens that start at zero too."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.5)


def _reference(features: TimmFeatures, arch: str, args: dict) -> nn.Module:
    model = timm.create_model(arch, pretrained=False, num_classes=0, **args)
    result = model.load_state_dict(features.encoder.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == features.removed
    return model.train(features.training)


@pytest.mark.parametrize(("arch", "args"), STAGES)
@pytest.mark.parametrize("training", [False, True])
def test_stage_maps_are_timms(arch, args, training):
    features = TimmFeatures(arch, args, norm_outputs=False).train(training)
    reference = _reference(features, arch, args)
    images = torch.randn(2, 3, 64, 96)
    wanted = reference.forward_intermediates(images, intermediates_only=True)[-4:]
    maps = features(images)
    assert list(maps) == ["res2", "res3", "res4", "res5"]
    for (name, got), want in zip(maps.items(), wanted, strict=True):
        assert torch.equal(got, want)
        assert got.shape[1] == features.channels[name]
        assert got.shape[-2:] == (64 // features.strides[name], 96 // features.strides[name])


@pytest.mark.parametrize(("arch", "args"), VITS)
def test_vit_maps_are_timms(arch, args):
    features = TimmFeatures(arch, args).eval()
    _randomise(features)
    reference = _reference(features, arch, args)
    images = torch.randn(2, 3, 64, 96)
    wanted = reference.forward_intermediates(images, intermediates_only=True)
    for got, block in zip(features(images).values(), features.taken, strict=True):
        assert torch.equal(got, wanted[block])


@pytest.mark.parametrize(("arch", "args"), [STAGES[0], STAGES[3], STAGES[4], VITS[0], VITS[2]])
@pytest.mark.parametrize("pyramid", ["simple", "blocks"])
@pytest.mark.parametrize("window", [0, 3])
def test_no_parameter_is_left_without_gradient(arch, args, pyramid, window):
    vit = is_plain_vit(arch, args)
    if not vit and (window or pyramid == "blocks"):
        pytest.skip("for plain ViTs")
    more = {"pyramid": pyramid, "window_size": window} if vit else {}
    features = TimmFeatures(arch, args, **more)
    sum(f.square().mean() for f in features(torch.randn(2, 3, 64, 96)).values()).backward()
    assert [n for n, p in features.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("pyramid", ["simple", "blocks"])
def test_pyramids_reach_the_strides_at_any_size(patch, pyramid):
    args = {"img_size": 64, "depth": 4, "patch_size": patch, "embed_dim": 48, "num_heads": 3}
    features = TimmFeatures("beit_base_patch16_224", args, pyramid=pyramid, pyramid_channels=32)
    for height, width in [(64, 64), (70, 33), (100, 130)]:
        maps = features(torch.randn(1, 3, height, width))
        for name, stride in {"res2": 4, "res3": 8, "res4": 16, "res5": 32}.items():
            assert features.strides[name] == stride
            assert maps[name].shape == (
                1,
                32 if pyramid == "simple" else 48,
                -(-height // stride),
                -(-width // stride),
            )


def test_simple_pyramid_has_vitdets_layers():
    """detectron2 modeling/backbone/vit.py SimpleFeaturePyramid, scales 4, 2, 1 and 0.5."""
    args = {"img_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 3}
    features = TimmFeatures("vit_tiny_patch16_224", args, pyramid="simple", pyramid_channels=32)
    kinds = {
        name: [type(m).__name__ for m in level.modules() if not list(m.children())]
        for name, level in features.pyramid.named_children()
    }
    out = ["Conv2d", "LayerNorm2d", "Conv2d", "LayerNorm2d"]
    up = "ConvTranspose2d"
    assert kinds == {
        "res2": [up, "LayerNorm2d", "GELU", up, *out],
        "res3": [up, *out],
        "res4": ["Identity", *out],
        "res5": ["MaxPool2d", *out],
    }
    shapes = {n: tuple(p.shape) for n, p in features.pyramid.res2.named_parameters()}
    assert shapes["0.0.weight"] == (48, 24, 2, 2)
    assert shapes["0.3.weight"] == (24, 12, 2, 2)
    assert shapes["1.weight"] == (32, 12, 1, 1)
    assert shapes["3.weight"] == (32, 32, 3, 3)
    assert "1.bias" not in shapes


def test_blocks_pyramid_takes_raw_blocks():
    args = {"img_size": 64, "depth": 4, "embed_dim": 48, "num_heads": 3}
    features = TimmFeatures("vit_tiny_patch16_224", args, pyramid="blocks", blocks=(0, 1, 2, 3))
    features.eval()
    raw = _reference(features, "vit_tiny_patch16_224", args).forward_intermediates(
        images := torch.randn(1, 3, 64, 64), intermediates_only=True
    )
    maps = features(images)
    assert torch.equal(maps["res4"], raw[2])
    assert torch.equal(maps["res5"], nn.functional.max_pool2d(raw[3], 2))


def _beit(**more) -> TimmFeatures:
    args = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3, "init_values": 0.1}
    features = TimmFeatures("beit_base_patch16_224", args, blocks=(0, 0, 1, 1), **more).eval()
    _randomise(features)
    return features


def test_windows_are_images_of_their_own():
    """Windowed attention = global attention on each window without its class token."""
    windowed = _beit(window_size=4, global_blocks=(1,))
    alone = _beit(window_size=4, global_blocks=(0, 1))
    alone.load_state_dict(windowed.state_dict())
    images = torch.randn(1, 3, 128, 192)
    first = windowed(images)["res2"]
    for top in (0, 64):
        for left in (0, 64, 128):
            tile = alone(images[..., top : top + 64, left : left + 64])["res2"]
            place = first[..., top // 16 : top // 16 + 4, left // 16 : left // 16 + 4]
            torch.testing.assert_close(place, tile, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(windowed(images)["res4"], first)


def test_a_short_window_is_padded_and_cut():
    features = _beit(window_size=3, global_blocks=(1,))
    small, large = torch.randn(1, 3, 80, 112), torch.zeros(1, 3, 96, 144)
    assert features(small)["res2"].shape == (1, 48, 5, 7)
    large[..., :80, :112] = small
    torch.testing.assert_close(
        features(small)["res2"][..., :3, :6], features(large)["res2"][..., :3, :6]
    )


def test_tables_get_gradients_at_other_sizes():
    features = _beit()
    features.train()
    features(torch.randn(1, 3, 96, 48))["res5"].sum().backward()
    grad = features.encoder.blocks[0].attn.relative_position_bias_table.grad
    assert grad.abs().sum() > 0
    assert torch.isfinite(grad).all()


def test_checkpointing_changes_nothing():
    for arch, args, more in [
        (*STAGES[3], {}),
        (*STAGES[0], {}),
        (*VITS[2], {"pyramid": "simple", "window_size": 3}),
    ]:
        torch.manual_seed(0)
        plain = TimmFeatures(arch, args, **more)
        kept = TimmFeatures(arch, args, checkpointing=True, **more)
        kept.load_state_dict(plain.state_dict())
        images = torch.randn(1, 3, 64, 96)
        for net in (plain, kept):
            sum(f.square().mean() for f in net(images).values()).backward()
        for (name, a), b in zip(plain.named_parameters(), kept.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_frozen_encoder_keeps_statistics_and_weights():
    features = TimmFeatures(*STAGES[0], norm_outputs=True, freeze="backbone").train()
    before = {n: t.clone() for n, t in features.encoder.state_dict().items()}
    sum(f.mean() for f in features(torch.randn(2, 3, 64, 64)).values()).backward()
    assert all(torch.equal(before[n], t) for n, t in features.encoder.state_dict().items())
    assert [n for n, p in features.named_parameters() if p.grad is not None] == [
        n for n, _ in features.named_parameters() if n.startswith("norms.")
    ]


def test_norms_are_for_convnexts_by_default():
    assert set(TimmFeatures(*STAGES[3]).norms) == {"res2", "res3", "res4", "res5"}
    assert not TimmFeatures(*STAGES[0]).norms


def test_out_features_prune_what_follows():
    features = TimmFeatures(*STAGES[0], out_features=("res2", "res4"))
    assert list(features(torch.randn(1, 3, 64, 64))) == ["res2", "res4"]
    assert any(name.startswith("layer4.") for name in features.removed)


def test_drop_path_reaches_the_blocks():
    features = TimmFeatures(*STAGES[3], drop_path_rate=0.3)
    assert features.encoder.stages[3].blocks[0].drop_path.drop_prob == pytest.approx(0.3)


def test_shared_table_becomes_one_a_block():
    args = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    shared = {**args, "use_shared_rel_pos_bias": True, "use_rel_pos_bias": False}
    names = TimmFeatures("beit_base_patch16_224", shared).state_dict()
    assert "encoder.blocks.1.attn.relative_position_bias_table" in names
    assert not any("rel_pos_bias." in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "resnet_fifty"}, "no architecture"),
        ({"arch": "resnet18", "arch_args": {"colour": 1}}, "colour"),
        ({"arch": "resnet18", "pyramid": "simple"}, "plain ViTs"),
        ({"arch": "resnet18", "out_features": ("p2",)}, "out_features"),
        ({"arch": "resnet18", "freeze": "all"}, "freeze"),
        ({"arch": "vit_tiny_patch16_224", "blocks": (1, 2)}, "blocks"),
        ({"arch": "vit_tiny_patch16_224", "blocks": (1, 2, 3, 40)}, "12 blocks"),
        ({"arch": "vit_small_patch14_dinov2", "pyramid": "simple"}, "patch"),
    ],
)
def test_refusals_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmFeatures(**arguments)


@pytest.mark.parametrize(("arch", "args"), VITS[:2])
def test_added_tables_and_scales_change_nothing_until_they_are_trained(arch, args):
    """Relative positions start at zero and layer scales at 1.0, as in the MAE recipe."""
    plain = TimmFeatures(arch, args).eval()
    more = TimmFeatures(arch, args, relative_position=True, layer_scale=1.0).eval()
    missing, spare = more.encoder.load_state_dict(plain.encoder.state_dict(), strict=False)
    assert set(missing) == more.added
    assert len(more.added) == 3 * 4
    assert not spare
    images = torch.randn(2, 3, 64, 96)
    for a, b in zip(plain(images).values(), more(images).values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    _randomise(more)  # the tables
    assert not torch.allclose(more(images)["res5"], plain(images)["res5"], atol=1e-2)


def test_added_tables_are_read_as_beits(monkeypatch):
    """The bias of a ViT's attention is the one that BEiT takes from the same table."""
    args = {"img_size": (64, 96), "depth": 1, "embed_dim": 48, "num_heads": 3}
    vit = TimmFeatures("vit_tiny_patch16_224", args, relative_position=True).eval()
    beit = TimmFeatures("beit_base_patch16_224", args).eval()
    assert vit.has_relative_position
    table = torch.randn_like(vit.encoder.blocks[0].attn.relative_position_bias_table)
    seen = []
    attend = F.scaled_dot_product_attention

    def record(*inputs, attn_mask=None, **more):
        seen.append(attn_mask)
        return attend(*inputs, attn_mask=attn_mask, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    for features in (vit, beit):
        features.encoder.blocks[0].attn.relative_position_bias_table.data.copy_(table)
        features(torch.randn(1, 3, 96, 64))  # another grid than the stored one
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("arch", "args", "options"),
    [
        ("resnet18", {}, {"relative_position": True}),
        (*VITS[2], {"relative_position": True}),
        (*VITS[2], {"layer_scale": 1.0}),
        ("vit_tiny_patch16_224", {"depth": 2, "init_values": 0.1}, {"layer_scale": 1.0}),
    ],
)
def test_what_has_them_or_cannot_take_them_is_refused(arch, args, options):
    with pytest.raises(ValueError, match=r"relative_position=True is for|layer_scale=1\.0"):
        TimmFeatures(arch, args, **options)
