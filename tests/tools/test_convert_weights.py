"""inspect_weights and convert_weights as commands: what they print, write and refuse."""

import json
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from pretrain.files.encoder_file import read_identity
from tests.transfer.weights import cases_hostile as hostile
from tests.transfer.weights.cases_layouts import layouts
from tools import convert_weights, inspect_weights
from transfer.weights import features_for, read_weights, sha256_of
from transfer.weights import releases as manifest
from transfer.weights.convert import NAMES
from transfer.weights.releases import releases

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["spark_resnet", "spark_convnext", "fcmae_convnextv2", "fcmae_minkowski_layout", "beit_mim"]


@pytest.mark.parametrize("case", CASES)
def test_golden_weights_go_in(run, case, tmp_path):
    source = GOLDEN / case / "weights.safetensors"
    code, told, _ = run(inspect_weights, source, "--all")
    assert code == 0
    weights = read_weights(source)
    assert weights.reason in told.replace("\n", " ")
    out = tmp_path / "encoder.safetensors"
    code, told, _ = run(convert_weights, source, "--out", out)
    assert code == 0, told
    identity = read_identity(out)
    assert identity.extra["source_sha256"] == sha256_of(source)
    report = json.loads((tmp_path / "encoder.safetensors.report.json").read_text())
    assert report["out_sha256"] == sha256_of(out)
    measured = [p["largest_difference"] for p in report["proofs"] if not p["not_possible"]]
    assert len(measured) >= 2
    assert max(measured) < 1e-5
    features, loaded, _ = features_for(out)
    assert loaded.loaded == len(features.encoder.state_dict())
    assert loaded.identity["extra"]["source_sha256"] == sha256_of(source)


def test_report_accounts_for_every_tensor(run, tmp_path):
    layout = layouts()["spark_resnet_full"]()
    torch.save(layout.content, tmp_path / "w.pth")
    assert run(convert_weights, tmp_path / "w.pth", "--out", tmp_path / "o.safetensors")[0] == 0
    report = json.loads((tmp_path / "o.safetensors.report.json").read_text())
    assert {*report["tensors"].values(), *report["unused"]} == set(layout.content["module"])
    assert report["unused"]["config"] == "no tensor"


@pytest.mark.parametrize(("to", "ending"), [("timm", ".pth"), ("detectron2", ".pkl")])
def test_other_targets(run, to, ending, tmp_path):
    source = GOLDEN / "spark_resnet" / "weights.safetensors"
    out = tmp_path / f"out{ending}"
    code, told, _ = run(convert_weights, source, "--out", out, "--to", to)
    assert code == 0, told
    assert read_weights(out).identity.arch == "resnet18"


def test_stated_conventions_travel(run, tmp_path):
    source = GOLDEN / "spark_resnet" / "weights.safetensors"
    out = tmp_path / "o.safetensors"
    conventions = ["--color-order", "BGR", "--pixel-mean", "0.4", "0.5", "0.6"]
    assert run(convert_weights, source, "--out", out, *conventions)[0] == 0
    _, _, pixels = features_for(out)
    assert pixels.color_order == "BGR"
    assert pixels.mean == (0.4, 0.5, 0.6)


@pytest.mark.parametrize("kind", [*hostile.RUNNING, *hostile.BROKEN])
def test_hostile_files_are_refused_by_both(run, kind, tmp_path):
    write, _ = {**hostile.RUNNING, **hostile.BROKEN}[kind]
    path = tmp_path / ("w.pkl" if "pickle" in kind else "w.pth")
    write(path)
    out = tmp_path / "out.safetensors"
    code, _, error = run(convert_weights, path, "--out", out)
    assert code == 2
    assert error.startswith("error: ")
    assert str(path) in error
    assert not out.exists()
    assert not (tmp_path / "ran").exists()
    if kind in hostile.RUNNING:
        code, _, error = run(inspect_weights, path)
        assert code == 2
        assert "refused" in error
        assert not (tmp_path / "ran").exists()


def test_out_is_not_written_over(run, tmp_path):
    out = tmp_path / "o.safetensors"
    (tmp_path / "precious").write_text("kept")
    out.symlink_to(tmp_path / "precious")
    code, _, error = run(convert_weights, GOLDEN / "beit_mim/weights.safetensors", "--out", out)
    assert code == 2
    assert "exists" in error
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_failed_proof_leaves_nothing(run, tmp_path, monkeypatch):
    from transfer.weights import prove

    broken = prove.Proof("made up", largest_difference=0.5)
    monkeypatch.setattr(prove, "against_written", lambda *_: broken)
    out = tmp_path / "o.safetensors"
    code, _, error = run(convert_weights, GOLDEN / "beit_mim/weights.safetensors", "--out", out)
    assert code == 2
    assert "does not compute" in error
    assert list(tmp_path.iterdir()) == []


def test_a_missing_release_says_where_to_get_it(run, tmp_path):
    arguments = ["--out", tmp_path / "o.safetensors", "--weights-dir", tmp_path]
    code, _, error = run(convert_weights, "mae_vit_base", *arguments)
    assert code == 2
    assert "https://dl.fbaipublicfiles.com/mae/" in error
    assert str(tmp_path / "mae_pretrain_vit_base.pth") in error
    code, _, error = run(inspect_weights, "downloads/mae_pretrain_vit_large.pth")
    assert code == 2
    assert "mae_pretrain_vit_large.pth" in error
    assert "https://" in error
    code, _, error = run(convert_weights, "mae_vit_bass", *arguments)
    assert code == 2
    assert "neither a file nor one of the" in error
    assert "did you mean 'mae_vit_base" in error


def test_a_release_without_a_link_says_so(run, tmp_path, monkeypatch):
    unlinked = replace(releases()["mae_vit_base"], url=None)
    monkeypatch.setattr(manifest, "releases", lambda: {"mae_vit_base": unlinked})
    arguments = ["--out", tmp_path / "o.safetensors", "--weights-dir", tmp_path]
    _, _, error = run(convert_weights, "mae_vit_base", *arguments)
    assert "no link to it is stated" in error


def test_manifest_is_sound():
    import timm

    listed = releases()
    assert len(listed) > 50
    assert len({release.file for release in listed.values()}) == len(listed)
    for release in listed.values():
        assert timm.is_model(release.arch), release.name
        assert release.source in NAMES, release.name
        assert release.sha256 == "unknown" or len(release.sha256) == 64
        assert release.url is None or release.url.startswith("https://")
        assert release.named_in


def test_every_stated_length_has_a_source():
    sources = json.loads(manifest.MANIFEST.read_text())["epochs_from"]
    for name, release in releases().items():
        source = next(text for pattern, text in sources.items() if fnmatch(name, pattern))
        if any(stage.epochs for stage in release.stages):
            assert not source.startswith("left out"), name


def test_a_wrong_hash_is_refused(run, tmp_path, monkeypatch):
    known = releases()
    stated = {"mae_vit_base": replace(known["mae_vit_base"], sha256="0" * 64)}
    monkeypatch.setattr(manifest, "releases", lambda: stated)
    layout = layouts()["mae"]()
    torch.save(layout.content, tmp_path / "mae_pretrain_vit_base.pth")
    arguments = ["--out", tmp_path / "o.safetensors", "--weights-dir", tmp_path]
    code, _, error = run(convert_weights, "mae_vit_base", *arguments)
    assert code == 2
    assert "SHA-256" in error
