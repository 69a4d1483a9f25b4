"""The loop: what a run leaves behind, what stops it, one process against two."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.config import BeitSettings, Recipe, recipe_from_json
from pretrain.data.order import BatchShare
from pretrain.files.encoder_file import read_encoder
from pretrain.files.training_state import read_state
from pretrain.methods import build_method
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from pretrain.prepare import announce
from pretrain.run import folder
from pretrain.run.batch_norm import CPUSyncBatchNorm, synchronised
from pretrain.run.log import TIMED
from pretrain.run.stop import NotFiniteError
from pretrain.schedule import learning_rate, run_length
from pretrain.sparse.dense import OverVisible, synchronised_over_visible
from pretrain.train import train
from tests.processes import start_two

ROOT = Path(__file__).resolve().parents[2]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / folder.LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(fcmae_recipe: Recipe, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    train(fcmae_recipe, data=photos, out=out)
    return out


def test_a_run_leaves_its_files(finished: Path, fcmae_recipe: Recipe) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "run.json",
        "data.json",
        "state.pt",
        "log.jsonl",
        "log.txt",
        "tensorboard",
        "reconstructions.png",
        "encoder.safetensors",
    }
    assert recipe_from_json(json.loads((finished / folder.RUN).read_text())) == fcmae_recipe
    lines = [json.loads(line) for line in (finished / folder.LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["epoch"] for line in lines] == [1, 2, 2]
    assert set(lines[0]) == {
        "step",
        "epoch",
        "loss",
        "lr",
        "weight_decay",
        "gradient_norm",
        "gradient_norm_encoder",
        *TIMED,
    }
    assert any((finished / "tensorboard").iterdir())
    with Image.open(finished / folder.PICTURE) as picture:
        assert picture.size == (4 * 68 - 4, 2 * 68 - 4)


def test_the_encoder_file_is_what_timm_builds(finished: Path, fcmae_recipe: Recipe) -> None:
    tensors, identity = read_encoder(finished / folder.ENCODER)
    encoder = timm.create_model(identity.arch, num_classes=0, **identity.arch_args)
    missing, unexpected = encoder.load_state_dict(tensors, strict=False)
    assert unexpected == []
    assert all(name.startswith("head.") for name in missing)
    assert (identity.method, identity.steps, identity.input_size) == ("fcmae", 6, 64)
    assert identity.pixel_mean == fcmae_recipe.augmentation.pixel_mean
    assert identity.recipe == json.loads(json.dumps(fcmae_recipe.to_json()))
    assert identity.extra["images"] == 24


def test_the_loss_falls(fcmae_recipe: Recipe, photos: Path, tmp_path: Path) -> None:
    longer = replace(fcmae_recipe.schedule, steps=40)
    recipe = replace(fcmae_recipe, schedule=longer, run=replace(fcmae_recipe.run, log_steps=10))
    train(recipe, data=photos, out=tmp_path / "out")
    found = losses(tmp_path / "out")
    assert found[-1] < found[0] - 0.02


def test_the_seed_decides_everything(
    fcmae_recipe: Recipe, finished: Path, photos: Path, tmp_path: Path
) -> None:
    train(fcmae_recipe, data=photos, out=tmp_path / "same")
    assert losses(tmp_path / "same") == losses(finished)
    train(replace(fcmae_recipe, seed=1), data=photos, out=tmp_path / "other")
    assert losses(tmp_path / "other") != losses(finished)


def test_accumulation_computes_the_same_step(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path
) -> None:
    """FCMAE has no statistics over the batch, so only rounding may differ."""
    whole = replace(fcmae_recipe, drop_path_rate=0.0)
    parts = replace(whole, run=replace(whole.run, device_batch_size=3))  # 4 x 2 images
    train(whole, data=photos, out=tmp_path / "whole")
    train(parts, data=photos, out=tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = FCMAE.forward, []

    def forward(self: FCMAE, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return whole(self, images, visible) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(FCMAE, "forward", forward)
    run = replace(fcmae_recipe.run, log_steps=3, checkpoint_steps=2)
    with pytest.raises(NotFiniteError, match="step 4: loss is nan") as error:
        train(replace(fcmae_recipe, run=run), data=photos, out=tmp_path / "out")
    assert f"{tmp_path / 'out' / folder.STATE}, after step 2" in str(error.value)
    assert str(error.value).count(str(photos)) == 8
    state = read_state(tmp_path / "out" / folder.STATE, "pretraining")
    assert state["step"] == 2
    assert all(torch.isfinite(t).all() for t in state["model"].values())
    assert not (tmp_path / "out" / folder.ENCODER).exists()


def test_a_last_update_that_is_not_finite_ends_without_an_encoder(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss shows it: a step's loss is computed before its update."""
    whole, out = learning_rate, tmp_path / "out"
    monkeypatch.setattr(
        "pretrain.train.learning_rate",
        lambda *given: float("nan") if given[-1] == 5 else whole(*given),
    )
    with pytest.raises(NotFiniteError, match=r"its update made values of \S+ NaN") as error:
        train(fcmae_recipe, data=photos, out=out)
    assert f"{out / folder.STATE}, after step 4" in str(error.value)
    assert not (out / folder.ENCODER).exists()
    assert read_encoder(out / folder.LATEST_ENCODER)[1].steps == 4
    state = read_state(out / folder.STATE, "pretraining")
    assert state["step"] == 4
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_init_takes_weights_only(
    fcmae_recipe: Recipe, finished: Path, photos: Path, tmp_path: Path
) -> None:
    train(fcmae_recipe, data=photos, out=tmp_path / "e", init=finished / folder.ENCODER)
    train(fcmae_recipe, data=photos, out=tmp_path / "s", init=finished / folder.STATE)
    for name in "es":
        lines = (tmp_path / name / folder.LOG).read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]
    assert len({losses(out)[0] for out in (finished, tmp_path / "e", tmp_path / "s")}) == 3


def test_what_does_not_fit_is_refused_before_the_images_are_read(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the images were read")

    monkeypatch.setattr("pretrain.train.checked_images", read)
    beit = replace(fcmae_recipe, arch="beit_base_patch16_224", arch_args={}, image_size=224)
    untrained, missing = BeitSettings(), BeitSettings(tokenizer="missing.safetensors")
    bad: list[tuple[Recipe, dict[str, Path], str]] = [
        (replace(fcmae_recipe, arch="convnextv3"), {}, "convnextv3"),
        (replace(fcmae_recipe, image_size=50), {}, "image_size=50"),
        (fcmae_recipe, {"init": Path("none.safetensors")}, r"none\.safetensors"),
        (replace(beit, method=missing), {}, r"missing\.safetensors"),
        (replace(beit, method=untrained, arch="vit_tiny_patch16_224"), {}, "vit_tiny"),
        (replace(beit, method=untrained), {"init": Path("none.pt")}, r"none\.pt"),
    ]
    for recipe, options, says in bad:
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            train(recipe, data=photos, out=tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def test_states_and_encoders_on_the_way_are_kept_where_asked(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path
) -> None:
    """Six steps, three an epoch."""
    run = replace(fcmae_recipe.run, keep_states=2, encoder_epochs=1)
    train(replace(fcmae_recipe, run=run), data=photos, out=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"state.pt", "state-4.pt", "encoder_epoch_0001.safetensors"} <= names
    assert "encoder_epoch_0002.safetensors" not in names  # that is encoder.safetensors
    early, identity = read_encoder(tmp_path / "out" / "encoder_epoch_0001.safetensors")
    late, _ = read_encoder(tmp_path / "out" / folder.ENCODER)
    assert identity.steps == 3
    assert early.keys() == late.keys()
    assert any(not torch.equal(early[name], late[name]) for name in early)


def test_a_resumed_run_keeps_its_precision(
    fcmae_recipe: Recipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto may be another on another device."""
    recipe = replace(fcmae_recipe, precision="auto")
    train(recipe, data=photos, out=tmp_path / "out")
    monkeypatch.setattr("pretrain.train.precision_of", lambda _: "bf16")
    with pytest.raises(ValueError, match="trained in fp32, here it would go on in bf16"):
        train(recipe, data=photos, out=tmp_path / "out", resume=True)


@pytest.mark.parametrize("kind", ["spark_recipe", "fcmae_recipe"])
def test_accumulation_with_batch_norm_is_warned_about(
    kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Over several processes BatchNorm is another class."""
    recipe: Recipe = request.getfixturevalue(kind)
    for world in (1, 2):
        method = build_method(recipe)
        if world == 2:
            method = synchronised_over_visible(method, torch.device("cpu"))
        caplog.clear()
        share = BatchShare(world=world, rank=0, batch=2, accumulation_steps=2)
        announce(recipe, method, 24, share, run_length(recipe, 24), "fp32")
        warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        if kind == "spark_recipe":
            assert warned == [
                f"BatchNorm's statistics are over {2 * world} images, not the 8 of "
                "a step: raise --device-batch-size"
            ]
        else:
            assert warned == []


def test_init_of_another_net_is_refused(
    fcmae_recipe: Recipe, finished: Path, photos: Path, tmp_path: Path
) -> None:
    other = replace(fcmae_recipe, arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]})
    with pytest.raises(
        ValueError, match=r"holds an encoder convnextv2_atto.*does not fit"
    ) as caught:
        train(other, data=photos, out=tmp_path / "out", init=finished / folder.ENCODER)
    assert "10 tensors too many (stages.2.blocks.1." in str(caught.value)
    assert len(str(caught.value)) < 600  # torch's own error names every tensor


def test_resuming_on_other_images_is_refused(
    fcmae_recipe: Recipe, finished: Path, photos: Path, tmp_path: Path
) -> None:
    some = tmp_path / "list.txt"
    some.write_text("\n".join(str(p) for p in sorted(photos.rglob("*.png"))))
    with pytest.raises(ValueError, match="holds other images than when the run"):
        train(fcmae_recipe, data=some, out=finished, resume=True)


def test_batch_norm_over_processes_is_that_of_the_whole_batch() -> None:
    """One process here: the layer by itself against torch's, forward, gradients, statistics."""
    torch.manual_seed(0)
    plain = torch.nn.BatchNorm2d(3).double()
    torch.nn.init.normal_(plain.weight)
    x = torch.randn(5, 3, 4, 2, dtype=torch.double)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        model = torch.nn.Sequential(torch.nn.BatchNorm2d(3).double())
        model[0].load_state_dict(plain.state_dict())
        synced = synchronised(model, torch.device("cpu"))
        assert isinstance(synced[0], CPUSyncBatchNorm)
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        for module, inputs in ((plain, one), (synced, other)):
            module(inputs).sin().sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(plain.weight.grad, synced[0].weight.grad)
        torch.testing.assert_close(plain.running_var, synced[0].running_var)
        torch.testing.assert_close(plain(x), synced(x))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("launcher", "sparse"), [("torchrun", "patches"), ("srun", "dense")])
def test_two_processes_compute_what_one_does(
    spark_recipe: Recipe, photos: Path, tmp_path: Path, launcher: str, sparse: str
) -> None:
    """SparK on a ResNet: gradients averaged, BatchNorm over the visible patches of both."""
    spark_recipe = replace(spark_recipe, method=replace(spark_recipe.method, sparse=sparse))
    path = tmp_path / "recipe.py"
    path.write_text(
        "from pretrain.config import recipe_from_json\n"
        f"recipe = recipe_from_json({spark_recipe.to_json()!r})\n"
    )
    tool = ["tools/pretrain.py", path, "--data", photos, "--out", tmp_path / "two"]
    said = start_two(launcher, tool)
    train(spark_recipe, data=photos, out=tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-4)
    one, two = (read_encoder(tmp_path / name / folder.ENCODER)[0] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert "8 images per step = 2 devices x 4" in said


@pytest.mark.parametrize("arch", ["resnet18", "regnety_002"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_synchronised_norms_of_the_reference_stay_masked(arch: str, device: str) -> None:
    """A swap alone: nothing is computed here, so the kind for GPUs can be looked at too."""
    arch_args = {"se_ratio": 0} if arch == "regnety_002" else {}
    method = SparK(arch=arch, arch_args=arch_args, image_size=64, decoder_width=32, sparse="dense")
    before = dict(method.state_dict())
    masked = {name for name, m in method.named_modules() if isinstance(m, OverVisible)}
    method = synchronised_over_visible(method, torch.device(device))
    kind = torch.nn.SyncBatchNorm if device == "cuda" else CPUSyncBatchNorm
    norms = {n: m for n, m in method.named_modules() if isinstance(m, _BatchNorm)}
    assert all(isinstance(m, kind) for m in norms.values())
    assert {n for n, m in norms.items() if isinstance(m, OverVisible)} == masked
    assert method.state_dict().keys() == before.keys()
