"""A detection run takes its encoder from a file strictly, and says so in its record."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from omegaconf import DictConfig

from pretrain.files.encoder_file import write_encoder
from pretrain.files.read import sha256_of
from tests.identity import identity_of
from transfer.detection.build import build_detector
from transfer.detection.config import ConfigError
from transfer.detection.run import eval_only, run
from transfer.results.record import read_result
from transfer.weights import features_for

ARCH = "convnextv2_atto"
ARGS = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
IDENTITY = identity_of(
    ARCH, ARGS, method="fcmae", pixel_std=(0.2, 0.3, 0.4), color_order="BGR", steps=10
)

Tiny = Callable[..., DictConfig]


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    encoder = timm.create_model(ARCH, num_classes=0, **ARGS)
    tensors = {n: t for n, t in encoder.state_dict().items() if not n.startswith("head.")}
    write_encoder(tmp_path / "encoder.safetensors", tensors, IDENTITY)
    return tmp_path / "encoder.safetensors"


def test_the_record_of_a_pretrained_run_says_where_its_weights_came_from(
    tiny: Tiny, encoder_file: Path
) -> None:
    more = ["schedule.steps=1", f"weights={encoder_file}", "arch=None", "arch_args={}"]
    result = run(tiny("pretrained", *more))
    scratch = run(tiny("scratch", "schedule.steps=1"))
    assert result is not None
    assert scratch is not None
    assert (result.method, scratch.method) == ("fcmae", "scratch")
    assert result.protocol_hash == scratch.protocol_hash
    assert (result.backbone, result.backbone_args) == (scratch.backbone, scratch.backbone_args)
    assert result.weights is not None
    assert result.weights["fresh"] == []
    assert result.weights["loaded"] > 40
    assert scratch.weights is None
    encoder_file.unlink()  # the trained detector stands alone, pixel statistics and all
    assert eval_only(tiny("pretrained", "arch=None", "arch_args={}")) == result.metrics


def test_a_finished_runs_state_is_recorded_as_its_detector_is(
    tiny: Tiny, encoder_file: Path
) -> None:
    same = ["train.ema_decay=0.9", "arch=None", "arch_args={}"]
    result = run(tiny("out", "model.score_threshold=0.0", *same, f"weights={encoder_file}"))
    assert result is not None
    encoder_file.unlink()
    out = Path(tiny().output_dir)
    state = f"checkpoint={out / 'state.pt'}"
    eval_only(tiny("out", *same, "model.score_threshold=0.0", state))
    assert not (out / "evals").exists()  # it is the evaluation of the run itself
    other = [*same, "model.score_threshold=0.1", "optimizer.lr=0.5"]
    found = []
    for checkpoint in (state, f"checkpoint={out / 'model_final.pth'}"):
        eval_only(tiny("out", *other, checkpoint))
        (record,) = out.glob("evals/*.json")
        (detections,) = out.glob("evals/*/coco_instances_results.json")
        said = read_result(record).model_dump(exclude={"evaluated_at"})
        assert said["train"] == result.train  # not the command line's
        found.append((said, detections.read_bytes()))
        record.unlink()
    assert found[0] == found[1]  # pixels, averaged weights


def test_a_state_of_other_weights_than_the_records_is_not_recorded(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    run(tiny("out"))
    run(tiny("another", "seed=1"))
    out, another = Path(tiny().output_dir), Path(tiny("another").output_dir)
    (another / "state.pt").replace(out / "state.pt")
    eval_only(tiny("out", "model.score_threshold=0.1", f"checkpoint={out / 'state.pt'}"))
    assert "is not recorded" in caplog.text
    assert not list(out.glob("evals/*.json"))


def test_pixels_are_fed_as_the_encoder_was_trained(tiny: Tiny, encoder_file: Path) -> None:
    detector = build_detector(tiny("out", f"weights={encoder_file}"), num_classes=2)
    expected = torch.tensor([0.5, 0.4, 0.3]) * 255
    assert torch.allclose(detector.model.pixel_mean.flatten(), expected)
    assert torch.allclose(detector.model.pixel_std.flatten(), torch.tensor([0.2, 0.3, 0.4]) * 255)
    assert detector.image_format == "BGR"


def test_pixels_can_be_set_and_the_record_says_so(tiny: Tiny, encoder_file: Path) -> None:
    pixels = 'pixels={"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "color_order": "RGB"}'
    detector = build_detector(tiny("out", f"weights={encoder_file}", pixels), num_classes=2)
    assert torch.allclose(detector.model.pixel_mean, torch.tensor(127.5))
    assert torch.allclose(detector.model.pixel_std, torch.tensor(63.75))
    assert detector.image_format == "RGB"
    assert "pixels set by the config" in detector.notes[-1]
    with pytest.raises(ConfigError, match=r"pixels\.std is missing"):
        tiny("out", 'pixels={"mean": [0.5, 0.5, 0.5]}')


def test_assumed_pixels_are_a_warning(tiny: Tiny, tmp_path: Path, caplog: Any) -> None:
    args = {"embed_dim": 64, "depth": 4, "num_heads": 1, "img_size": 64}
    net = timm.create_model("vit_base_patch16_224", num_classes=5, **args)
    path = tmp_path / "deit_base_patch16_224-b5f2ef4d.pth"  # a release: its training is known
    torch.save(net.state_dict(), path)
    config = tiny("out", f"weights={path}", "arch=vit_base_patch16_224", f"arch_args={args}")
    with caplog.at_level("WARNING"):
        build_detector(config, num_classes=2)
    assert "use mean and std 0.5; set pixels=" in caplog.text


def test_heads_start_the_same_whatever_the_encoder(tiny: Tiny, encoder_file: Path) -> None:
    pretrained = build_detector(tiny("out", f"weights={encoder_file}"), num_classes=2).model
    scratch = build_detector(tiny(), num_classes=2).model
    for name, value in scratch.state_dict().items():
        same = torch.equal(value, pretrained.state_dict()[name])
        if not (".encoder." in name and value.ndim == 4):
            assert same, name
    first = "backbone.bottom_up.features.encoder.stem.0.weight"
    assert not torch.equal(scratch.state_dict()[first], pretrained.state_dict()[first])


@pytest.mark.parametrize("case", ["truncated", "other architecture", "missing", "other depth"])
def test_a_wrong_file_is_refused_before_training(tiny: Tiny, encoder_file: Path, case: str) -> None:
    more = [f"weights={encoder_file}"]
    if case == "truncated":
        encoder_file.write_bytes(encoder_file.read_bytes()[:-1000])
    elif case == "missing":
        encoder_file.unlink()
    elif case == "other architecture":
        more += ["arch=resnet18", "arch_args={}"]
    else:
        tensors = {"stem.0.weight": torch.zeros(8, 3, 4, 4)}
        write_encoder(encoder_file, tensors, replace(IDENTITY, arch_args=ARGS))
    with pytest.raises((ValueError, FileNotFoundError), match=r"encoder\.safetensors"):
        run(tiny("out", *more))
    assert not Path(tiny().output_dir).exists()


def test_a_control_is_recorded_as_one(tiny: Tiny, encoder_file: Path) -> None:
    weights = f"weights=control:shuffled:{encoder_file}"
    config = tiny("control", "schedule.steps=1", weights, "arch=None", "arch_args={}", "seed=3")
    result = run(config)
    assert result is not None
    assert result.method == "fcmae+shuffled"
    assert (result.stages[-1].seed, result.stages[-1].started_from) == (3, sha256_of(encoder_file))
    assert result.sha256 not in (None, sha256_of(encoder_file))
    detector = build_detector(config, 2)
    assert not torch.equal(
        detector.features.encoder.stem[0].weight,
        features_for(encoder_file)[0].encoder.stem[0].weight,
    )


def test_the_random_control_is_frozen(tiny: Tiny) -> None:
    detector = build_detector(tiny("out", "weights=control:random", "freeze=backbone"), 2)
    assert detector.report is not None
    assert detector.report.identity["method"] == "random"
    assert not any(p.requires_grad for p in detector.features.encoder.parameters())
