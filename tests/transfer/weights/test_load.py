"""Strict loading: every tensor from the file or declared, one error that lists the rest."""

import json
import re
from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import EncoderIdentity, write_encoder
from tests.identity import identity_of
from tests.transfer.weights.cases_layouts import BEIT, CONVNEXT2, RESNET, VIT, layouts, random_net
from transfer.features import TimmFeatures
from transfer.features.position import resize_position_embedding, resize_relative_position
from transfer.weights import (
    IMAGENET,
    WeightsError,
    features_for,
    load_encoder,
    sha256_of,
    transfer_arch_args,
)
from transfer.weights.convert import read_weights


def identity(arch: str, args: dict, **changes) -> EncoderIdentity:
    own = {"method": "test", "pixel_mean": (0.1, 0.2, 0.3), "pixel_std": (0.4, 0.5, 0.6)}
    own |= {"color_order": "BGR", "steps": 7, "recipe": {"lr": 1}}
    return identity_of(arch, args, **(own | changes))


@pytest.fixture
def resnet(tmp_path) -> Path:
    return _write(tmp_path, *RESNET)


def _write(folder: Path, arch: str, args: dict, change=None, **more) -> Path:
    state = dict(random_net(arch, {**args, **more}, num_classes=0).state_dict())
    if change:
        change(state)
    path = folder / "encoder.safetensors"
    write_encoder(path, state, identity(arch, {**args, **more}))
    return path


def test_report_and_pixels(resnet):
    features, report, pixels = features_for(resnet, drop_path_rate=0.1)
    assert report.loaded == len(features.encoder.state_dict())
    assert (report.fresh, report.unused, report.resized) == ([], [], [])
    assert report.sha256 == sha256_of(resnet)
    assert report.source == "encoder"
    assert report.identity["steps"] == 7
    assert json.loads(json.dumps(report.to_json()))["file"] == str(resnet)
    assert (pixels.mean, pixels.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert pixels.color_order == "BGR"


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("beit_shared", r"std \[0\.5, 0\.5, 0\.5\], assumed: .* ImageNet-1k use ImageNet's"),
        ("timm_vit", r"std \[0\.229, .*assumed: timm's AugReg .* 0\.5"),
        ("mae", r"std \[0\.229, 0\.224, 0\.225\]$"),
    ],
)
def test_the_report_says_which_pixel_statistics_are_assumed(tmp_path, layout, told):
    made = layouts()[layout]()
    torch.save(made.content, tmp_path / "weights.pth")
    weights = read_weights(tmp_path / "weights.pth", arch_args=made.arch_args)
    features = TimmFeatures(weights.identity.arch, weights.identity.arch_args)
    assert re.search(told, str(load_encoder(features, weights)))


def test_scratch():
    features, report, pixels = features_for("none", *RESNET)
    assert report is None
    assert pixels == IMAGENET
    assert features.arch == "resnet18"
    with pytest.raises(ValueError, match="needs arch"):
        features_for("none")


def test_missing_left_over_and_misshaped_are_listed_together(tmp_path):
    def change(state):
        del state["layer1.0.conv1.weight"]
        state["extra.weight"] = torch.ones(2)
        state["bn1.weight"] = torch.ones(3)

    path = _write(tmp_path, *RESNET, change)
    with pytest.raises(WeightsError) as caught:
        features_for(path)
    told = str(caught.value)
    assert str(path) in told
    assert "missing from the file (1): layer1.0.conv1.weight" in told
    assert "left over (1): extra.weight" in told
    assert "bn1.weight is (3,), the encoder has (64,)" in told


def test_declared_exceptions(tmp_path):
    def change(state):
        del state["layer1.0.conv1.weight"]
        state["extra.weight"] = torch.ones(2)

    path = _write(tmp_path, *RESNET, change)
    features, report, _ = features_for(path, fresh=["layer1.0.conv1.*"], unused=["extra.*"])
    assert report.fresh == ["layer1.0.conv1.weight"]
    assert report.unused == ["extra.weight"]
    assert report.loaded == len(features.encoder.state_dict()) - 1


def test_fresh_keeps_the_initial_value(resnet):
    torch.manual_seed(3)
    wanted = TimmFeatures(*RESNET).encoder.conv1.weight.clone()
    torch.manual_seed(3)
    features, report, _ = features_for(resnet, fresh=["conv1.weight"])
    assert torch.equal(features.encoder.conv1.weight, wanted)
    assert report.fresh == report.unused == ["conv1.weight"]


def test_what_a_recipe_adds_needs_no_declaration(tmp_path):
    def change(state):
        del state["cls_token"]

    added = {"relative_position": True, "layer_scale": 1.0}
    path = _write(tmp_path, *VIT)
    features, report, _ = features_for(path, **added)
    assert set(report.fresh) == features.added
    assert "blocks.0.attn.relative_position_bias_table" in report.fresh
    with pytest.raises(WeightsError, match=r"missing from the file \(1\): cls_token"):
        features_for(_write(tmp_path, *VIT, change), **added)


@pytest.mark.parametrize("which", ["fresh", "unused"])
def test_a_declaration_that_matches_nothing_is_an_error(resnet, which):
    with pytest.raises(WeightsError, match=f"{which} pattern 'head.*' matches no"):
        features_for(resnet, **{which: ["head.*"]})


def test_unused_does_not_hide_what_is_needed(resnet):
    with pytest.raises(WeightsError, match=r"missing from the file.*layer4"):
        features_for(resnet, unused=["layer4.*"])


@pytest.mark.parametrize(
    ("arch", "args"),
    [("resnet50", None), ("resnet18", {"layers": (2, 2, 2, 2)}), ("vit_tiny_patch16_224", None)],
)
def test_another_architecture_is_one_sentence(resnet, arch, args):
    with pytest.raises(WeightsError, match="the config asks for") as caught:
        features_for(resnet, arch, args)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="the config asks for"):
        load_encoder(TimmFeatures(arch, args), resnet)


def test_one_net_of_two_names_is_the_same(tmp_path):
    path = _write(tmp_path, "vit_base_patch16_224", {"depth": 2, "img_size": 64})
    features, report, _ = features_for(path, "deit_base_patch16_224", {"depth": 2, "img_size": 64})
    assert report.loaded == len(features.encoder.state_dict())


def test_final_norms_and_classifiers_are_left_out(tmp_path):
    _, report, _ = features_for(_write(tmp_path, *CONVNEXT2))
    assert report.unused == ["head.norm.bias", "head.norm.weight"]
    path = _write(tmp_path, *VIT, lambda s: s.update({"head.weight": torch.ones(5, 64)}))
    _, report, _ = features_for(path, pyramid="simple")
    assert report.unused == ["head.weight", "norm.bias", "norm.weight"]


def test_stages_that_are_not_asked_for(resnet):
    _, report, _ = features_for(resnet, out_features=("res2", "res3"))
    assert report.unused
    assert all(name.startswith(("layer3.", "layer4.")) for name in report.unused)


def test_shared_table_reaches_every_block(tmp_path):
    shared = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "global_pool": "token"}
    path = _write(tmp_path, *BEIT, **shared)
    net = random_net(*BEIT, **shared, num_classes=0)
    features, report, _ = features_for(path)
    table = net.rel_pos_bias.relative_position_bias_table
    for block in features.encoder.blocks:
        assert torch.equal(block.attn.relative_position_bias_table, table)
    tables = [block.attn.relative_position_bias_table for block in features.encoder.blocks]
    assert len({t.data_ptr() for t in tables}) == len(tables)
    assert report.resized[0].startswith("rel_pos_bias.relative_position_bias_table")


def test_position_parameters_are_resized_and_reported(tmp_path):
    path = _write(tmp_path, *BEIT)
    features, report, _ = features_for(path, image_size=128)
    net = random_net(*BEIT, num_classes=0)
    wanted = resize_relative_position(net.blocks[1].attn.relative_position_bias_table, 6, 8)
    assert torch.equal(features.encoder.blocks[1].attn.relative_position_bias_table, wanted)
    assert len(report.resized) == 3
    path = _write(tmp_path, *VIT)
    features, report, _ = features_for(path, image_size=96)
    wanted = resize_position_embedding(random_net(*VIT, num_classes=0).pos_embed, (4, 4), (6, 6), 1)
    assert torch.equal(features.encoder.pos_embed, wanted)
    assert report.resized == ["pos_embed: (1, 17, 64) -> (1, 37, 64)"]


def test_patch_embedding_is_resized(tmp_path):
    arch, args = "vit_small_patch14_dinov2", {"depth": 1, "img_size": 56}
    path = _write(tmp_path, arch, args)
    features, report, _ = features_for(path, arch, {"depth": 1, "img_size": 64, "patch_size": 16})
    assert features.encoder.patch_embed.proj.weight.shape[-1] == 16
    assert any(line.startswith("patch_embed.proj.weight") for line in report.resized)


def test_half_precision_becomes_single(tmp_path):
    path = _write(
        tmp_path,
        *RESNET,
        lambda s: s.update({k: v.half() for k, v in s.items() if v.is_floating_point()}),
    )
    features, _, _ = features_for(path)
    assert features.encoder.conv1.weight.dtype == torch.float32


def test_scratch_and_pretrained_have_equal_arguments():
    recipe = {"embed_dim": 48, "depth": 3, "num_heads": 3, "init_values": 0.1}
    complete = {
        **recipe,
        "img_size": 96,
        "use_shared_rel_pos_bias": True,
        "use_rel_pos_bias": False,
        "use_abs_pos_emb": False,
        "global_pool": "token",
    }
    arch = "beit_base_patch16_224"
    assert transfer_arch_args(arch, complete) == transfer_arch_args(arch, recipe)
    assert transfer_arch_args("resnet18", {"layers": (1, 2)}) == {"layers": [1, 2]}


def test_truncated_encoder_file(resnet):
    resnet.write_bytes(resnet.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="truncated"):
        features_for(resnet)
