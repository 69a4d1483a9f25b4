"""The backbone returns timm's tensors; heads, pixels and parameter groups follow from it."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from transfer.segmentation.backbone import TimmBackbone
from transfer.segmentation.config import fill_in, load_config
from transfer.segmentation.optimizer import parameter_groups
from transfer.segmentation.runner import build_runner

GOLDEN = Path("tests/golden/layer_decay_and_schedules.json")
VIT = {"embed_dim": 24, "depth": 4, "num_heads": 2, "img_size": 64, "init_values": 0.1}
NETS = {
    "resnet18": {},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]},
}


@pytest.mark.parametrize(("arch", "arch_args"), NETS.items())
def test_features_are_timms_bit_for_bit(arch, arch_args):
    backbone = TimmBackbone("none", arch, arch_args, norm_outputs=False).eval()
    reference = timm.create_model(arch, pretrained=False, num_classes=0, **arch_args).eval()
    reference.load_state_dict(backbone.features.encoder.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 96)
    indices = [-4, -3, -2, -1]
    with torch.no_grad():
        theirs = reference.forward_intermediates(images, indices, intermediates_only=True)
        ours = backbone(images)
    assert [m.shape[-2:] for m in ours] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [m.shape[1] for m in ours] == backbone.channels
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def encoder_file(path, arch="resnet18", arch_args=None, std=(0.5, 0.5, 0.5)):
    """An encoder file with random weights; returns its tensors."""
    torch.manual_seed(1)
    net = timm.create_model(arch, pretrained=False, num_classes=0, **(arch_args or {}))
    identity = identity_of(arch, arch_args or {}, pixel_mean=(0.4, 0.5, 0.6), pixel_std=std)
    write_encoder(path, net.state_dict(), identity)
    return load_file(path)


def build(scenes, *options):
    cfg = load_config(
        "configs/segmentation/custom.py",
        [f"data_root={scenes}", "classes=a,b,c", "head_channels=8", *options],
    )
    return fill_in(cfg)


def test_weights_pixels_and_channels_reach_the_segmentor(scenes, tmp_path):
    tensors = encoder_file(tmp_path / "encoder.safetensors")
    cfg = build(scenes, f"weights={tmp_path / 'encoder.safetensors'}")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model
    model.init_weights()  # as MMEngine does before training
    for name, tensor in model.backbone.features.encoder.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([102, 127.5, 153])
    assert model.data_preprocessor.std.flatten().tolist() == pytest.approx([127.5] * 3)
    assert model.decode_head.in_channels == [64, 128, 256, 512]
    assert model.auxiliary_head.in_channels == 256
    assert model.backbone.report.loaded == len(tensors)


def test_no_class_owns_the_classifier_from_the_start(scenes, tmp_path):
    """With MMSegmentation's std of 0.01 short runs of ViTs on few labels predicted one class."""
    model = build_runner(build(scenes, "arch=resnet18"), tmp_path / "run").unwrapped_model
    model.init_weights()
    assert model.decode_head.conv_seg.weight.std() > 0.1


def test_pixels_reach_the_encoder_as_the_weights_want_them(scenes, tmp_path):
    encoder_file(tmp_path / "encoder.safetensors")
    cfg = build(scenes, f"weights={tmp_path / 'encoder.safetensors'}")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model
    bgr = torch.tensor([153.0, 127.5, 102.0]).view(3, 1, 1).expand(3, 64, 64)  # mean colour
    from mmseg.structures import SegDataSample

    batch = {"inputs": [bgr.to(torch.uint8)], "data_samples": [SegDataSample()]}
    out = model.data_preprocessor(batch, training=False)["inputs"]
    assert out.abs().max() < 0.005


def test_published_recipes_keep_imagenet_pixels(scenes, tmp_path):
    encoder_file(tmp_path / "encoder.safetensors")
    cfg = build(scenes, f"weights={tmp_path / 'encoder.safetensors'}", "pixels=imagenet")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )


def test_an_encoder_of_another_architecture_is_refused(scenes, tmp_path):
    encoder_file(tmp_path / "encoder.safetensors")
    cfg = build(scenes, f"weights={tmp_path / 'encoder.safetensors'}", "arch=convnext_atto")
    with pytest.raises(ValueError, match=r"holds resnet18.*asks for convnext_atto"):
        build_runner(cfg, tmp_path / "run")


def test_beit_gets_its_pyramid_of_blocks(scenes, tmp_path):
    cfg = build(scenes, "arch=beit_base_patch16_224", f"arch_args={json.dumps(VIT)}")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model.eval()
    with torch.no_grad():
        maps = model.backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 24), (24, 8, 12), (24, 4, 6), (24, 2, 3)]


def test_parameter_groups_cover_every_parameter_once(scenes, tmp_path):
    arch_args = json.dumps({"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]})
    cfg = build(scenes, "arch=convnextv2_atto", f"arch_args={arch_args}")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model
    groups = parameter_groups(model, 1.0, 0.05, decay=0.5, rule="convnext_stage_wise", num_layers=6)
    names = [n for g in groups for n in g["names"]]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    rates = {n: g["lr"] for g in groups for n in g["names"]}
    decays = {n: g["weight_decay"] for g in groups for n in g["names"]}
    encoder = "backbone.features.encoder."
    assert rates[encoder + "stem.0.weight"] == 0.5**7
    assert rates[encoder + "stages.2.blocks.1.conv_dw.weight"] == 0.5**4
    assert rates["decode_head.conv_seg.weight"] == 1.0
    assert rates["backbone.features.norms.res2.weight"] == 1.0
    assert decays[encoder + "stages.0.blocks.0.mlp.grn.weight"] == 0.0
    assert decays[encoder + "stem.0.weight"] == 0.05
    assert decays["decode_head.conv_seg.bias"] == 0.0


def test_a_frozen_backbone_has_no_group(scenes, tmp_path):
    cfg = build(scenes, "arch=resnet18", "freeze=backbone")
    model = build_runner(cfg, tmp_path / "run").unwrapped_model
    names = [n for g in parameter_groups(model, 1.0, 0.05) for n in g["names"]]
    assert names
    assert not any("encoder" in name for name in names)
