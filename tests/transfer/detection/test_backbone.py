"""timm inside Detectron2: the same tensors, bit for bit, whichever way it is built."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from transfer.detection.backbone import TimmBackbone, add_timm_config, feature_pyramid
from transfer.detection.build import place
from transfer.features import TimmFeatures
from transfer.weights import IMAGENET

NETS = {
    "resnet18": {"channels": [8, 16, 24, 32]},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "convnextv2_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
}
VIT = ("beit_base_patch16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 64})


@pytest.mark.parametrize("arch", NETS)
def test_the_wrapper_returns_timms_maps_bit_for_bit(arch: str) -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone(TimmFeatures(arch, NETS[arch], norm_outputs=False)).eval()
    reference = timm.create_model(
        arch, features_only=True, out_indices=(-4, -3, -2, -1), **NETS[arch]
    ).eval()
    own = backbone.features.encoder.state_dict()
    renamed = {n: own[_timm_name(n, own)] for n in reference.state_dict()}
    reference.load_state_dict(renamed)
    images = torch.randn(2, 3, 64, 96)
    maps = backbone(images)
    assert list(maps) == ["res2", "res3", "res4", "res5"]
    for ours, theirs in zip(maps.values(), reference(images), strict=True):
        assert torch.equal(ours, theirs)


def test_the_wrapper_of_a_vit_returns_its_last_blocks_tokens() -> None:
    torch.manual_seed(0)
    arch, args = VIT
    features = TimmFeatures(arch, args, pyramid=None, blocks=[1], out_features=["res4"])
    backbone = TimmBackbone(features).eval()
    encoder = timm.create_model(arch, num_classes=0, **args).eval()
    encoder.load_state_dict(features.encoder.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    theirs = encoder.forward_intermediates(images, indices=[1], intermediates_only=True)[0]
    torch.testing.assert_close(backbone(images)["res4"], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("name", ["convnextv2_atto", "beit"])
def test_pyramids_have_five_levels_for_any_image(name: str, size: tuple[int, int]) -> None:
    if name == "beit":
        features = TimmFeatures(*VIT, pyramid="simple", pyramid_channels=16)
    else:
        features = TimmFeatures(name, NETS[name])
    pyramid = feature_pyramid(features, 16)
    maps = pyramid(torch.randn(1, 3, *size))
    shapes = pyramid.output_shape()
    assert list(maps) == list(shapes) == ["p2", "p3", "p4", "p5", "p6"]
    for level, stride in zip(maps, (4, 8, 16, 32, 64), strict=True):
        assert shapes[level].stride == stride
        assert maps[level].shape == (1, 16, -(-size[0] // stride), -(-size[1] // stride))


def test_yacs_users_name_the_backbone_in_the_registry() -> None:
    cfg = get_cfg()
    add_timm_config(cfg)
    cfg.MODEL.TIMM.ARCH = "resnet18"
    cfg.MODEL.TIMM.ARCH_ARGS.channels = [8, 16, 24, 32]
    cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    assert build_backbone(cfg)(torch.randn(1, 3, 64, 64))["p5"].shape == (1, 16, 2, 2)
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    assert build_backbone(cfg).output_shape()["res5"].channels == 32


def test_yacs_users_feed_the_pixels_that_the_weights_want(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    arch, args = "resnet18", NETS["resnet18"]
    state = timm.create_model(arch, num_classes=0, **args).state_dict()
    identity = identity_of(
        arch, args, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.25, 0.25, 0.25), color_order="BGR"
    )
    cfg = get_cfg()
    add_timm_config(cfg)
    assert cfg.INPUT.FORMAT == "RGB"
    assert pytest.approx([123.675, 116.28, 103.53]) == cfg.MODEL.PIXEL_MEAN
    cfg.MODEL.TIMM.ARCH, cfg.MODEL.TIMM.WEIGHTS = arch, str(path)
    cfg.MODEL.TIMM.ARCH_ARGS.channels = args["channels"]
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    write_encoder(path, state, identity)
    told = r"PIXEL_MEAN=\[127\.5, .*PIXEL_STD=\[63\.75, .*INPUT\.FORMAT=BGR"
    with pytest.raises(ValueError, match=told):
        build_backbone(cfg)
    write_encoder(
        path,
        state,
        replace(identity, pixel_mean=IMAGENET.mean, pixel_std=IMAGENET.std, color_order="RGB"),
    )
    assert build_backbone(cfg).output_shape()["res5"].channels == 32


def test_a_square_pad_leaves_positions_where_they_are() -> None:
    """What an image gives depends neither on its shape's rounding nor on its batch-mates."""
    torch.manual_seed(0)
    arch, args = VIT
    features = TimmFeatures(arch, args, pyramid="simple", pyramid_channels=16).eval()
    pyramid = feature_pyramid(features, 16, square_pad=96)
    wide = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = pyramid(wide)
        padded = feature_pyramid(features, 16)(F.pad(wide, (0, 0, 0, 32)))
        stretched = feature_pyramid(features, 16)(wide)
    assert maps["p2"].shape == (1, 16, 24, 24)
    assert torch.equal(maps["p4"], padded["p4"])
    assert not torch.allclose(maps["p4"][..., :4, :], stretched["p4"], atol=1e-3)
    with pytest.raises(ValueError, match="do not fit into the square of 96"):
        pyramid(torch.randn(1, 3, 64, 128))
    with pytest.raises(ValueError, match="is for plain ViTs, not for resnet18"):
        feature_pyramid(TimmFeatures("resnet18", NETS["resnet18"]), 16, square_pad=96)


@pytest.mark.parametrize("arch", NETS)
def test_gpus_run_convolutions_channels_last(arch: str) -> None:
    """On tensors without content, as there need not be a GPU."""
    last = torch.channels_last
    pyramid = feature_pyramid(TimmFeatures(arch, NETS[arch]), 16)
    with FakeTensorMode():
        for part in pyramid.modules():
            for own in (part._parameters, part._buffers):
                own.update({k: _on_gpu(v) for k, v in own.items() if v is not None})
        maps = pyramid(torch.empty(2, 3, 64, 96, device="cuda"))
        assert all(m.is_contiguous(memory_format=last) for m in maps.values())


def test_weights_of_convolutions_are_channels_last_on_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    convolution = nn.Conv2d(2, 3, 3)
    to = nn.Module.to
    monkeypatch.setattr(
        nn.Module, "to", lambda self, *where, **how: asked.extend(where) or to(self, **how)
    )
    place(convolution, torch.device("cpu"))
    assert convolution.weight.is_contiguous()
    place(convolution, torch.device("cuda"))
    assert asked == [torch.device("cpu"), torch.device("cuda")]
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.weight.is_contiguous()


def _on_gpu(value: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return nn.Parameter(empty) if isinstance(value, nn.Parameter) else empty


def _timm_name(name: str, own: dict[str, torch.Tensor]) -> str:
    """features_only flattens `stages.0` to `stages_0` and `stem.0` to `stem_0`."""
    if name in own:
        return name
    head, _, rest = name.partition(".")
    return f"{head.replace('_', '.')}.{rest}"
