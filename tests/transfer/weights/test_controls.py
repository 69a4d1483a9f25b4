"""Controls: shuffled weights and frozen random encoders, never taken for the trained ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import write_encoder
from pretrain.files.lineage import Stage, read_stages
from pretrain.files.read import sha256_of
from tests.identity import identity_of
from tests.transfer.weights.cases_layouts import BEIT, CONVNEXT2, RESNET, random_net
from transfer.weights import WeightsError, features_for
from transfer.weights.controls import file_of, random_images, sha256_of_weights, shuffled
from transfer.weights.convert import read_weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
STAGE = Stage("spark", data="shapes", labels=False, steps=7, seed=3)


@pytest.fixture(params=[RESNET, CONVNEXT2, BEIT], ids=lambda net: net[0])
def encoder(request, tmp_path) -> Path:
    return written(tmp_path, *request.param)


def written(folder: Path, arch: str, args: dict) -> Path:
    """Write an encoder file of random values."""
    state = random_net(arch, args, num_classes=0).state_dict()
    identity = identity_of(
        arch,
        args,
        stages=(STAGE,),
        pixel_mean=(0.1, 0.2, 0.3),
        pixel_std=(0.4, 0.5, 0.6),
        color_order="BGR",
        steps=7,
        recipe={"seed": 3},
    )
    path = folder / "encoder.safetensors"
    write_encoder(path, state, identity)
    return path


def sorted_values(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten().sort().values


def test_each_tensor_keeps_its_values_in_another_order(encoder):
    real = read_weights(encoder)
    control = shuffled(real, f"control:shuffled:{encoder}", seed=1)
    assert control.tensors.keys() == real.tensors.keys()
    moved = 0
    for name, tensor in real.tensors.items():
        other = control.tensors[name]
        assert other.shape == tensor.shape
        assert torch.equal(sorted_values(other), sorted_values(tensor)), name
        moved += not torch.equal(other, tensor)
    assert moved


def test_the_loaded_net_has_the_permuted_values_and_its_own_pixels(encoder):
    real, _, _ = features_for(encoder)
    control, report, pixels = features_for(f"control:shuffled:{encoder}", seed=1)
    differ = 0
    for name, tensor in real.encoder.state_dict().items():
        other = control.encoder.state_dict()[name]
        if name.endswith(STATISTICS):
            continue
        assert torch.equal(sorted_values(other), sorted_values(tensor)), name
        differ += not torch.equal(other, tensor)
    assert differ
    measured = {n for n in control.encoder.state_dict() if n.endswith(STATISTICS)}
    assert {*report.fresh} == measured
    assert report.loaded == len(real.encoder.state_dict()) - len(measured)
    assert (pixels.mean, pixels.color_order) == ((0.1, 0.2, 0.3), "BGR")


def test_the_order_follows_the_seed(encoder):
    name = f"control:shuffled:{encoder}"
    nets = [features_for(name, seed=seed)[0].encoder.state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(nets[0][n], nets[1][n]) for n in nets[0])
    assert not all(torch.equal(nets[0][n], nets[2][n]) for n in nets[0])


def test_report_and_lineage_say_what_it_is(encoder):
    name = f"control:shuffled:{encoder}"
    _, report, _ = features_for(name, seed=5)
    stages = read_stages(report.identity["stages"])
    assert stages == (STAGE, Stage("shuffled", seed=5, started_from=sha256_of(encoder)))
    assert report.identity["method"] == "spark+shuffled"
    assert report.file == name
    digests = {sha256_of(encoder), report.sha256, sha256_of_weights(name, 6)}
    assert len(digests) == 3
    assert report.sha256 == sha256_of_weights(name, 5)


def test_loading_stays_strict(encoder):
    tensors, identity = read_weights(encoder).tensors, read_weights(encoder).identity
    name = next(n for n, tensor in tensors.items() if tensor.ndim > 1)
    del tensors[name]
    write_encoder(encoder, tensors, identity)
    with pytest.raises(WeightsError, match=f"missing from the file .*{name}"):
        features_for(f"control:shuffled:{encoder}")
    with pytest.raises(FileNotFoundError):
        features_for("control:shuffled:no.safetensors")


@pytest.mark.parametrize("weights", ["control:shuffled:", "control:shuffle:a", "control:"])
def test_another_kind_is_refused(weights):
    with pytest.raises(WeightsError, match="control:shuffled:FILE"):
        features_for(weights, "resnet18")


def test_batch_norms_are_measured_anew(tmp_path):
    path = written(tmp_path, *RESNET)
    real = read_weights(path)
    control, _, _ = features_for(f"control:shuffled:{path}", seed=1)
    stem = control.encoder.bn1
    assert not torch.equal(stem.running_var, real.tensors["bn1.running_var"])
    with torch.no_grad():
        out = control.encoder.conv1(random_images(1))
    torch.testing.assert_close(stem.running_mean, out.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stem.running_var, out.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert stem.momentum == 0.1
    assert control.encoder.bn1.training


def test_the_random_encoder_is_frozen_and_begins_as_scratch_does():
    torch.manual_seed(4)
    control, report, _ = features_for("control:random", *RESNET, seed=4, freeze="backbone")
    torch.manual_seed(4)
    scratch, _, _ = features_for("none", *RESNET)
    assert torch.equal(control.encoder.conv1.weight, scratch.encoder.conv1.weight)
    assert not any(p.requires_grad for p in control.encoder.parameters())
    assert not control.train().encoder.bn1.training
    assert read_stages(report.identity["stages"]) == (Stage("random", labels=False, seed=4),)
    assert (report.file, report.loaded) == ("control:random", 0)
    assert report.sha256 == sha256_of_weights("control:random", 4)
    with pytest.raises(WeightsError, match="freeze=backbone"):
        features_for("control:random", *RESNET)
    with pytest.raises(ValueError, match="needs arch"):
        features_for("control:random", freeze="backbone")


def test_random_images_have_more_of_the_coarse_than_of_the_fine():
    images = random_images(0)
    assert torch.allclose(images.std(), torch.tensor(1.0), atol=1e-3)
    neighbours = (images[..., 1:] * images[..., :-1]).mean()
    assert neighbours > 0.7


def test_files_behind_weights():
    assert file_of("a.pth") == file_of("control:shuffled:a.pth") == "a.pth"
    assert file_of("none") is None
    assert file_of("control:random") is None


def test_a_control_of_unknown_training_is_refused(tmp_path):
    path = written(tmp_path, *RESNET)
    weights = read_weights(path)
    identity = replace(weights.identity, method="unknown", stages=(Stage("unknown"),))
    write_encoder(path, weights.tensors, identity)
    with pytest.raises(WeightsError, match="how it was trained"):
        features_for(f"control:shuffled:{path}")
