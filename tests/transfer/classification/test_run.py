"""A fine-tuning from end to end: record, encoder file, resume, signals, evaluation."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.files.encoder_file import read_encoder
from pretrain.files.read import sha256_of
from pretrain.run.loop import Loop
from pretrain.run.stop import NotFiniteError, Stopped
from transfer.classification.config import ConfigError
from transfer.classification.estimate import dry_run
from transfer.classification.run import eval_only, run
from transfer.features import TimmFeatures
from transfer.results.record import read_result
from transfer.weights import WeightsError, features_for, load_encoder

Small = Callable[..., Any]


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by name, without the logs that tell times."""
    kept = (p for p in folder.rglob("*") if p.is_file() and "tfevents" not in p.name)
    return {p.name: p.read_bytes() for p in kept if p.suffix not in (".txt", ".jsonl", ".lock")}


def log_lines(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    timed = ("images_per_second", "data_share", "peak_memory_mib", "hours")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def test_ends_in_a_record_and_an_encoder_that_detection_loads(small, tree, encoder, tmp_path):
    out = tmp_path / "out"
    accuracy = run(small("dataset=toys"), tree, out)
    result = read_result(out)
    assert result.metrics == accuracy.metrics
    assert set(result.metrics) == {"top1"}  # three classes have no top-5
    assert set(result.per_class) == {"disc", "square", "stripes"}
    assert (result.method, result.dataset.train_images, result.dataset.val_images) == (
        "spark",
        24,
        15,
    )
    assert result.train["data"]["images"] == 24
    assert result.eval["data"]["images"] == 15
    assert {"crop_pct", "squash"}.isdisjoint(result.train["images"])
    tensors, identity = read_encoder(out / "encoder.safetensors")
    assert identity.method == "spark+supervised"
    first, second = identity.stages
    assert (first.labels, second.labels, second.steps) == (False, True, 6)
    assert second.started_from == sha256_of(encoder)
    assert second.data.startswith("toys, 24 images")
    assert identity.recipe["started_from"] == {"method": "x"}
    assert identity.pixel_mean == (0.5, 0.4, 0.3)
    assert not any(name.startswith("fc.") for name in tensors)
    features, report, _ = features_for(out / "encoder.safetensors")
    assert [stage["method"] for stage in report.identity["stages"]] == ["spark", "supervised"]
    assert torch.equal(features.encoder.layer4[0].conv2.weight, tensors["layer4.0.conv2.weight"])


def test_starts_from_the_files_weights_and_a_fresh_classifier(small, tree, encoder, tmp_path):
    from lightning_fabric import Fabric

    from transfer.classification.prepare import prepare

    made = prepare(small(), None, tree, tmp_path / "out", Fabric(accelerator="cpu"))
    tensors, _ = read_encoder(encoder)
    own = made.built.model.encoder.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())
    assert made.built.report.fresh == ["fc.bias", "fc.weight"]
    assert own["fc.weight"].std() == pytest.approx(0.02, rel=0.5)
    again = prepare(small("seed=1"), None, tree, tmp_path / "out", Fabric(accelerator="cpu"))
    assert not torch.equal(own["fc.weight"], again.built.model.encoder.fc.weight)


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Let something happen after a step is trained."""
    train_step = Loop.train_step

    def then(self: Loop, number: int, batches: Any) -> None:
        train_step(self, number, batches)
        if number == step:
            act()

    monkeypatch.setattr(Loop, "train_step", then)


def kill() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("words", [(), ("repeats=3", "device_batch_size=4")])
def test_a_killed_run_resumes_bit_for_bit(small, tree, tmp_path, monkeypatch, words):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(small("eval_epochs=1", *words), tree, whole)
    for step in (1, 4):  # the state is of step 0 or before, then of step 4
        with monkeypatch.context() as patch:
            interrupt(patch, step, kill)
            with pytest.raises(KeyboardInterrupt):
                run(small("eval_epochs=1", *words), tree, broken, resume=True)
    (broken / ".encoder.safetensors.k1ll3d.tmp").write_text("half")
    run(small("eval_epochs=1", *words), tree, broken, resume=True)
    one, other = files(whole), files(broken)
    for name in ("encoder.safetensors", "run.json"):
        assert one[name] == other[name], name
    assert log_lines(whole) == log_lines(broken)
    assert read_result(whole).metrics == read_result(broken).metrics
    states = [
        torch.load(folder / "state.pt", weights_only=True)["values"] for folder in (whole, broken)
    ]
    for name in ("model", "average"):
        for key, tensor in states[0][name].items():
            assert torch.equal(tensor, states[1][name][key]), key
    assert not list(broken.glob(".*.tmp"))
    assert run(small("eval_epochs=1", *words), tree, broken, resume=True) is None  # finished


def test_a_stopped_run_saves_its_state_and_writes_no_record(small, tree, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped) as stopped:
            run(small(), tree, tmp_path / "out")
    assert stopped.value.code == 143
    assert not (tmp_path / "out" / "result.json").exists()
    with pytest.raises(ValueError, match="other settings"):
        run(small("mixup=0.5"), tree, tmp_path / "out", resume=True)
    assert run(small(), tree, tmp_path / "out", resume=True) is not None


def test_a_loss_that_is_not_finite_stops_the_run(small, tree, tmp_path):
    with pytest.raises(NotFiniteError, match=r"(?s)train_.*JPEG.*try a lower base_lr"):
        run(small("base_lr=1e30", "warmup_steps=0"), tree, tmp_path / "out")
    assert not (tmp_path / "out" / "result.json").exists()


def test_another_evaluation_has_a_record_of_its_own(small, tree, tmp_path):
    out = tmp_path / "out"
    accuracy = run(small(), tree, out)
    before = files(out)
    assert eval_only(small(), tree, out).metrics == accuracy.metrics
    assert files(out) == before
    found = eval_only(small("crop_pct=1.0"), tree, out)
    (path,) = out.glob("evals/*.json")
    record = read_result(path)
    assert record.metrics == found.metrics
    assert record.eval["crop_pct"] == 1.0
    assert record.train_hash == read_result(out).train_hash
    assert (record.method, record.stages) == ("spark", read_result(out).stages)


def test_a_network_of_another_size_is_not_evaluated(small, tree, tmp_path):
    """A ViT's positions are stored for the size that it was trained at."""
    net = json.dumps({"embed_dim": 16, "depth": 2, "num_heads": 2})
    vit = ["weights=none", "arch=vit_tiny_patch16_224", f"arch_args={net}", "input_size=64"]
    run(small(*vit), tree, tmp_path / "out")
    with pytest.raises(ConfigError, match="does not fit this config's network"):
        eval_only(small(*vit[:3], "input_size=96"), tree, tmp_path / "out")
    with pytest.raises(ConfigError, match="pool: trained with 'mean', now 'token'"):
        eval_only(small(*vit, "pool=token"), tree, tmp_path / "out")


def test_recomputed_activations_train_the_same_weights(small, tree, tmp_path):
    for name in ("true", "false"):
        run(small(f"grad_checkpointing={name}", "evaluate=false"), tree, tmp_path / name)
    one, other = (read_encoder(tmp_path / n / "encoder.safetensors")[0] for n in ("true", "false"))
    name = "layer4.0.conv2.weight"
    torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


def test_a_dry_run_says_what_the_run_would_be_and_writes_nothing(small, tree, tmp_path):
    text = "\n".join(dry_run(small("dataset=toys"), tree, tmp_path / "out"))
    assert "toys, 24 training and 15 validation images, 3 classes" in text
    assert "6 steps, 3 an epoch" in text
    assert "hours" in text
    assert not (tmp_path / "out").exists()


def test_what_the_stage_calls_its_images(small, tree, tmp_path, monkeypatch):
    run(small("dataset=imagenet_1k", "evaluate=false"), tree, tmp_path / "part")
    _, identity = read_encoder(tmp_path / "part" / "encoder.safetensors")
    assert identity.stages[-1].data.startswith("imagenet_1k, 24 images")
    monkeypatch.setattr("transfer.classification.record.IMAGES", {"imagenet_1k": 24})
    run(small("dataset=imagenet_1k", "evaluate=false"), tree, tmp_path / "whole")
    _, identity = read_encoder(tmp_path / "whole" / "encoder.safetensors")
    assert identity.stages[-1].data == "IN1K"


def test_without_evaluation_a_run_ends_in_its_encoder(small, tree, tmp_path):
    assert run(small("evaluate=false"), tree, tmp_path / "out") is None
    assert (tmp_path / "out" / "encoder.safetensors").is_file()
    assert not (tmp_path / "out" / "result.json").exists()
    assert run(small("evaluate=false"), tree, tmp_path / "out", resume=True) is None


def test_a_second_stage_starts_from_the_first_ones_encoder(small, tree, tmp_path):
    run(small("evaluate=false"), tree, tmp_path / "first")
    weights = tmp_path / "first" / "encoder.safetensors"
    run(small(f"weights={weights}"), tree, tmp_path / "second")
    _, identity = read_encoder(tmp_path / "second" / "encoder.safetensors")
    assert identity.method == "spark+supervised+supervised"
    assert read_result(tmp_path / "second").method == "spark+supervised"


def test_from_scratch_there_is_no_lineage(small, tree, tmp_path):
    net = json.dumps({"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]})
    run(small("weights=none", "arch=resnet26", f"arch_args={net}"), tree, tmp_path / "out")
    result = read_result(tmp_path / "out")
    assert (result.method, result.weights, result.stages) == ("scratch", None, [])
    _, identity = read_encoder(tmp_path / "out" / "encoder.safetensors")
    assert identity.method == "supervised"
    assert identity.stages[0].started_from is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("weights=",), "weights is not set"),
        (("weights=none", "arch=None"), "weights=none needs arch"),
        (("device_batch_size=1",), "images in pairs"),
        (("batch_size=64",), "24 images do not fill one step of 64"),
        (("arch=resnet18",), "holds resnet26"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(small, tree, tmp_path, words, told):
    with pytest.raises((ConfigError, ValueError, WeightsError), match=told):
        run(small(*words), tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fine_tuned_encoder_is_the_trained_one(small, tree, tmp_path):
    """The encoder file holds the average that was evaluated, not the last weights."""
    run(small(), tree, tmp_path / "out")
    values = torch.load(tmp_path / "out" / "state.pt", weights_only=True)["values"]
    tensors, identity = read_encoder(tmp_path / "out" / "encoder.safetensors")
    assert torch.equal(tensors["conv1.weight"], values["average"]["encoder.conv1.weight"])
    assert not torch.equal(tensors["conv1.weight"], values["model"]["encoder.conv1.weight"])
    load_encoder(
        TimmFeatures("resnet26", identity.arch_args), tmp_path / "out" / "encoder.safetensors"
    )
