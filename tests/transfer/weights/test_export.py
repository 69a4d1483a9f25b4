"""Exports in the frameworks' own nets, by their own loaders: no key left over, equal features."""

import logging
from pathlib import Path

import pytest
import timm
import torch
from timm.models import load_checkpoint

from tests.transfer.weights.cases_layouts import (
    BEIT,
    BOTTLENECK,
    CONVNEXT,
    CONVNEXT2,
    RESNET,
    VIT,
    minkowski_state,
    random_net,
)
from transfer.weights import WeightsError, prove, read_weights
from transfer.weights.export import export, require_suffix, write_export
from transfer.weights.reference import convnext_maps
from transfer.weights.sources.base import FINAL_NORM

SHARED = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "global_pool": "token"}
NETS = {
    "resnet": (*RESNET, {}),
    "bottleneck": (*BOTTLENECK, {}),
    "convnext": (*CONVNEXT, {}),
    "vit": (*VIT, {}),
    "beit": (*BEIT, {}),
    "beit shared": (*BEIT, SHARED),
}


def _weights(kind: str, folder: Path):
    arch, args, more = NETS[kind]
    net = random_net(arch, {**args, **more}, num_classes=0)
    torch.save({"model": net.state_dict()}, folder / "source.pth")
    return net, read_weights(folder / "source.pth")


def _write(weights, target: str, out: Path):
    exported = export(weights, target)
    write_export(exported, weights, target, out)
    return exported


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_timm_loads_it(kind, ending, tmp_path):
    net, weights = _weights(kind, tmp_path)
    out = tmp_path / f"out{ending}"
    _write(weights, "timm", out)
    identity = weights.identity
    other = timm.create_model(identity.arch, num_classes=0, **identity.arch_args).eval()
    result = load_checkpoint(other, str(out), strict=False)
    assert result.unexpected_keys == []
    assert all(FINAL_NORM.match(name) for name in result.missing_keys)
    images = prove.random_images(weights, None if kind not in ("resnet", "bottleneck") else 64)
    images = images.float()
    wanted = net.forward_intermediates(images, intermediates_only=True)
    for ours, theirs in zip(
        other.forward_intermediates(images, intermediates_only=True), wanted, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["resnet", "bottleneck"])
@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_detectron2_loads_it(kind, norm, tmp_path):
    pytest.importorskip("transfer.detection")
    from detectron2.layers import FrozenBatchNorm2d

    from transfer.detection import native as exported

    _, weights = _weights(kind, tmp_path)
    out = tmp_path / "out.pkl"
    _write(weights, "detectron2", out)
    net = exported.resnet_like(weights.tensors)
    if norm == "FrozenBN":
        net = FrozenBatchNorm2d.convert_frozen_batchnorm(net)
    assert exported.load(net, out) == []
    images = prove.random_images(weights, 64)
    ours = prove.maps_of(prove.dense_features(weights), images)
    maps = list(net.eval().double()(images).values())
    proof = prove.compare("detectron2", maps, ours)
    assert proof.largest_difference < 1e-5


def test_what_detectron2_cannot_place_is_seen(tmp_path):
    pytest.importorskip("transfer.detection")
    from transfer.detection import native as exported

    _, weights = _weights("resnet", tmp_path)
    weights.tensors["layer4.9.conv1.weight"] = torch.ones(3, 3, 1, 1)
    _write(weights, "detectron2", tmp_path / "out.pkl")
    del weights.tensors["layer4.9.conv1.weight"]
    left = exported.load(exported.resnet_like(weights.tensors), tmp_path / "out.pkl")
    assert left == ["res5.9.conv1.weight"]


@pytest.mark.parametrize("kind", ["vit", "beit", "beit shared", "resnet"])
def test_mmsegmentation_loads_it(kind, tmp_path):
    pytest.importorskip("mmseg")
    from transfer.segmentation import native as exported

    logging.getLogger("mmengine").setLevel(logging.ERROR)
    if kind == "resnet":
        net = random_net("resnet18", {"channels": (8, 16, 32, 64)}, num_classes=0)
        net.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        torch.save(net.state_dict(), tmp_path / "source.pth")
        weights = read_weights(tmp_path / "source.pth")
    else:
        _, weights = _weights(kind, tmp_path)
    out = tmp_path / "out.pth"
    settings = _write(weights, "mmseg", out).settings
    images = prove.random_images(weights, 64 if kind == "resnet" else None)
    theirs = exported.maps_of_file(out, weights.tensors, settings, images)
    ours = prove.maps_of(prove.dense_features(weights), images)
    assert prove.compare("mmseg", theirs, ours).largest_difference < 1e-5


def test_our_own_loader_reads_the_mmseg_export(tmp_path):
    _, weights = _weights("beit", tmp_path)
    _write(weights, "mmseg", tmp_path / "out.pth")
    again = read_weights(tmp_path / "out.pth")
    assert again.source == "openmmlab"
    assert all(
        torch.equal(again.tensors[n], t) for n, t in weights.tensors.items() if n in again.tensors
    )
    assert {n for n in weights.tensors if n not in again.tensors} == {
        "fc_norm.weight",
        "fc_norm.bias",
    }


def test_nets_a_framework_has_not_are_refused(tmp_path):
    _, weights = _weights("convnext", tmp_path)
    for target in ("detectron2", "mmseg"):
        with pytest.raises(WeightsError, match="--to encoder"):
            export(weights, target)
    with pytest.raises(WeightsError, match=r"ends in \.pkl"):
        require_suffix("detectron2", Path("x.pth"))


def test_the_second_way_finds_a_wrong_kernel():
    """A Minkowski kernel read row by row, not column by column, is caught by the proof."""
    net = random_net(*CONVNEXT2)
    state = minkowski_state(net)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right = net.forward_intermediates(images, intermediates_only=True)
    assert prove.compare("", convnext_maps(state, images), right).largest_difference < 1e-5
    wrong = dict(state)
    name = "encoder.stages.0.0.dwconv.kernel"
    wrong[name] = state[name].unflatten(0, (7, 7)).transpose(0, 1).flatten(0, 1)
    assert prove.compare("", convnext_maps(wrong, images), right).failed
