"""Every layout: recognised, complete, and with the features of the net it was made from."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.files.training_state import write_state
from tests.transfer.weights.cases_layouts import Layout, layouts, random_net, without
from transfer.features import TimmFeatures
from transfer.features.timm_features import build_encoder
from transfer.weights import WeightsError, features_for, load_encoder, read_weights
from transfer.weights.architecture import infer_architecture

GOLDEN = Path(__file__).parents[2] / "golden"
LAYOUTS = layouts()


def write(layout: Layout, folder: Path) -> Path:
    path = folder / ("weights.pkl" if layout.source == "detectron2" else "weights.pth")
    arrays = layout.source == "detectron2" and not any(
        isinstance(v, torch.Tensor) for v in layout.content["model"].values()
    )
    if arrays:
        path.write_bytes(pickle.dumps(layout.content))
    else:
        torch.save(layout.content, path)
    return path


def state_dict_in(content):
    for container in ("model", "module", "state_dict", "teacher"):
        content = content.get(container, content)
    return content


def assert_nothing_lost(weights, content):
    """Every tensor of the file is in the encoder, or listed with the reason why not."""
    told = {*weights.origin.values(), *weights.unused}
    assert {k.removeprefix("module.") for k in told} >= {k.removeprefix("module.") for k in content}


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_are_those_of_the_net(name, tmp_path):
    layout = LAYOUTS[name]()
    weights = read_weights(write(layout, tmp_path))
    assert weights.source == layout.source, weights.reason
    assert_nothing_lost(weights, state_dict_in(layout.content))
    features = TimmFeatures(weights.identity.arch, weights.identity.arch_args, norm_outputs=False)
    report = load_encoder(features.eval(), weights)
    assert report.loaded + len(report.fresh) == len(features.encoder.state_dict())
    assert all("num_batches_tracked" in n for n in report.fresh)
    side = layout.net.patch_embed.img_size[0] if features.plain else 64
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        wanted = layout.net.forward_intermediates(images, intermediates_only=True)
        got = features(images).values()
    wanted = [wanted[i] for i in features.taken]
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tensor_more_or_less_is_refused(name, tmp_path):
    layout = LAYOUTS[name]()
    content = state_dict_in(layout.content)
    first = next(iter(read_weights(write(layout, tmp_path)).origin.values()))
    taken = next(k for k in content if k.endswith(first))
    kept = content.pop(taken)
    with pytest.raises(
        WeightsError, match=r"missing|whole architecture|not known|cannot be read as"
    ):
        read_weights(write(layout, tmp_path))
    content[taken] = kept
    like = taken.rpartition(".")[0] + ".surplus"
    content[like] = kept
    with pytest.raises(WeightsError, match="surplus"):
        read_weights(write(layout, tmp_path))


GOLDEN_FEATURES = [
    ("fcmae_convnextv2", "fcmae_convnextv2", "dense_feature_"),
    ("fcmae_minkowski_layout", "fcmae_convnextv2", "dense_feature_"),
]


@pytest.mark.parametrize(("weights", "case", "key"), GOLDEN_FEATURES)
def test_golden_fcmae_features(weights, case, key):
    recorded = load_file(GOLDEN / case / "case.safetensors")
    features, _, _ = features_for(GOLDEN / weights / "weights.safetensors", norm_outputs=False)
    with torch.no_grad():
        maps = list(features.eval()(recorded["images"]).values())
    for i, ours in enumerate(maps):
        torch.testing.assert_close(ours, recorded[f"{key}{i}"], rtol=1e-4, atol=1e-4)


def test_golden_minkowski_equals_the_official_remap():
    official = load_file(GOLDEN / "fcmae_minkowski_layout" / "case.safetensors")
    weights = read_weights(GOLDEN / "fcmae_minkowski_layout" / "weights.safetensors")
    assert len(weights.tensors) == len(official)
    for name, origin in weights.origin.items():
        theirs = origin.removeprefix("encoder.").replace(".kernel", ".weight")
        theirs = theirs.replace(".ln.", ".").replace(".linear.", ".")
        assert torch.equal(weights.tensors[name].flatten(), official[theirs].flatten()), name


def test_golden_beit_features():
    recorded = load_file(GOLDEN / "beit_mim" / "case.safetensors")
    path = GOLDEN / "beit_mim" / "weights.safetensors"
    features, report, pixels = features_for(path, blocks=(0, 0, 1, 1))
    final = read_weights(path).tensors
    with torch.no_grad():
        last = list(features.eval()(recorded["images"]).values())[-1]
    tokens = last.flatten(2).transpose(1, 2)
    width = tokens.shape[-1:]
    normed = torch.nn.functional.layer_norm(
        tokens, width, final["norm.weight"], final["norm.bias"], 1e-6
    )
    torch.testing.assert_close(normed, recorded["features_unmasked"][:, 1:], rtol=1e-4, atol=1e-4)
    assert pixels.mean == (0.5, 0.5, 0.5)
    assert set(report.unused) >= {"norm.weight", "mask_token", "lm_head.weight"}


@pytest.mark.parametrize("case", ["spark_resnet", "spark_convnext"])
def test_golden_spark_encoders_are_complete(case):
    features, report, _ = features_for(GOLDEN / case / "weights.safetensors")
    assert report.loaded == len(features.encoder.state_dict())
    assert report.fresh == []


def test_source_can_be_said(tmp_path):
    path = write(LAYOUTS["spark_resnet_encoder"](), tmp_path)
    assert read_weights(path).source == "spark"
    assert read_weights(path, "dino_resnet").source == "dino_resnet"
    with pytest.raises(WeightsError, match="unknown source 'moco'"):
        read_weights(path, "moco")


def test_arch_can_be_said(tmp_path):
    layout = LAYOUTS["timm_vit"]()
    args = {"embed_dim": 64, "depth": 3, "num_heads": 2, "img_size": 64}
    weights = read_weights(write(layout, tmp_path), arch="vit_base_patch16_224", arch_args=args)
    assert weights.identity.arch_args["num_heads"] == 2


def test_unknown_layout_says_what_to_do(tmp_path):
    torch.save({"model": {"trunk.conv.weight": torch.randn(3)}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"trunk.conv.weight.*--source"):
        read_weights(tmp_path / "w.pth")
    torch.save({"weights": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(tmp_path / "w.pth")


def test_a_training_state_and_a_whole_detector_are_told_from_encoders(tmp_path):
    write_state(tmp_path / "state.pt", "pretraining", {"model": {"stem.weight": torch.ones(2)}})
    with pytest.raises(WeightsError, match=r"a training state.*encoder\.safetensors"):
        read_weights(tmp_path / "state.pt")
    names = ("backbone.fpn_lateral2.weight", "roi_heads.box_head.fc1.weight")
    torch.save({"model": {name: torch.ones(2) for name in names}}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=r"a whole detector.*that it was trained from"):
        read_weights(tmp_path / "model_final.pth")


def test_nets_that_stride_elsewhere_are_refused(tmp_path):
    layout = LAYOUTS["detectron2_arrays"]()
    layout.content["__author__"] = "Detectron2 Model Zoo"
    with pytest.raises(WeightsError, match="STRIDE_IN_1X1"):
        read_weights(write(layout, tmp_path))
    torch.save({"model": {"res2_0_branch2a_w": torch.randn(3)}}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="Caffe2"):
        read_weights(tmp_path / "c.pth")
    layout = LAYOUTS["mmseg_resnet"]()
    layout.content["meta"]["cfg"] = "backbone=dict(type='ResNet', style='caffe')"
    with pytest.raises(WeightsError, match="caffe"):
        read_weights(write(layout, tmp_path))


def test_what_the_tensors_leave_open_can_be_said(tmp_path):
    net = random_net("vit_tiny_patch16_224", {"embed_dim": 48, "num_heads": 3, "img_size": 64})
    torch.save({"model": without(net.state_dict(), "head")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"attention heads.*--arch-args"):
        read_weights(tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth", arch_args={"num_heads": 3})
    assert weights.identity.arch_args["num_heads"] == 3


NAMED = """resnet18 resnet34 resnet50 resnet101 resnet152 resnet200 resnet50d resnext50_32x4d
wide_resnet50_2 convnext_tiny convnext_small convnext_base convnext_large convnext_xlarge
convnext_atto convnextv2_atto convnextv2_femto convnextv2_pico convnextv2_nano convnextv2_tiny
convnextv2_base convnextv2_large convnextv2_huge vit_tiny_patch16_224 vit_small_patch16_224
vit_base_patch16_224 vit_large_patch16_224 vit_huge_patch14_224 vit_base_patch8_224
deit_small_distilled_patch16_224 vit_small_patch14_dinov2 vit_large_patch14_dinov2
vit_giant_patch14_dinov2 vit_base_patch14_reg4_dinov2 beit_base_patch16_224
beit_large_patch16_224 beitv2_base_patch16_224"""


def test_published_nets_get_their_names():
    for name in NAMED.split():
        with torch.device("meta"):
            tensors = build_encoder(name).state_dict()
        source = "beitv2" if "beitv2" in name else ""
        assert infer_architecture(tensors, source, "file") == (name, {})
