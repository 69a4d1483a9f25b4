"""Options of a run beyond the plain one, each on a run of a step or two."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from transfer.detection import checkpoint
from transfer.detection.build import build_detector, precise_bn, set_backbone_norm
from transfer.detection.config import ConfigError
from transfer.detection.estimate import dry_run
from transfer.detection.prepare import prepare, training_batches
from transfer.detection.run import eval_only, run

Tiny = Callable[..., DictConfig]
RESNET = ["arch=resnet26", 'arch_args={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}']


def test_a_trained_detector_is_evaluated_in_other_ways(tiny: Tiny) -> None:
    run(tiny("out", *RESNET, "schedule.steps=2", "test.precise_bn=2", "test.pictures=0"))
    plain = eval_only(tiny("out", *RESNET))
    soft = '{"method": "gaussian", "iou_threshold": 0.5, "sigma": 0.5, "min_score": 0.001}'
    more = 'test.tta={"sizes": [64, 96], "max_size": 128, "flip": True}'
    for override in (f"model.soft_nms={soft}", more, "model.masks=true"):
        assert eval_only(tiny("out", *RESNET, override)).keys() == plain.keys()


def test_a_state_before_precise_bn_is_not_recorded_as_the_trained_detector(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    run(tiny("out", *RESNET, "schedule.steps=1", "test.precise_bn=2", "test.pictures=0"))
    out = Path(tiny().output_dir)
    other = ["model.score_threshold=0.1", f"checkpoint={out / 'state.pt'}"]
    eval_only(tiny("out", *RESNET, *other))
    assert "is not recorded" in caplog.text
    assert not list(out.glob("evals/*.json"))


def test_a_cascade_trains_on_boxes_alone(tiny: Tiny) -> None:
    result = run(
        tiny(
            "out",
            "model.cascade=true",
            "model.masks=false",
            "model.box_norm=SyncBN",
            "model.box_convs=[16]",
            "schedule.steps=1",
            "train.accumulation_steps=2",
        )
    )
    assert result is not None
    assert set(result.metrics) == {"AP_box", "AP50_box", "AP75_box", "APs_box"}
    assert result.notes[0].startswith("SyncBN ran as BatchNorm")
    assert "micro-batches are accumulated" in result.notes[1]


def test_a_dry_run_says_the_cost_and_writes_nothing(tiny: Tiny) -> None:
    lines = dry_run(tiny("out"))
    told = "\n".join(lines)
    assert "12 training and 5 validation images, 2 classes" in told
    assert "4 steps of 2 images (0.7 epochs)" in told
    assert "images/s" in told
    assert "forward pass: 0." in told
    assert "multiply-adds an image of" in told
    assert "|" + 4 * "█" not in told  # the learning rate warms up and falls
    assert not Path(tiny().output_dir).exists()


@pytest.mark.parametrize("kind", ["BN", "SyncBN", "FrozenBN"])
def test_the_backbones_norm_can_be_chosen(tiny: Tiny, kind: str) -> None:
    encoder = build_detector(tiny("out", *RESNET, f"backbone_norm={kind}"), 2).features.encoder
    frozen = [m for m in encoder.modules() if isinstance(m, FrozenBatchNorm2d)]
    trained = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(frozen) == (kind == "FrozenBN")
    assert bool(trained) == (kind != "FrozenBN")


def test_statistics_are_not_frozen_before_there_are_any(tiny: Tiny) -> None:
    config = tiny("out", *RESNET, "backbone_norm=FrozenBN")
    with pytest.raises(ConfigError, match="keeps the statistics of a weights file"):
        run(config)
    assert not Path(config.output_dir).exists()


def test_a_frozen_norm_keeps_its_activation() -> None:
    """timm's BatchNormAct2d, of RegNet and EfficientNet, is norm and activation in one."""
    encoder = timm.create_model("regnetx_002", num_classes=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(images)
        assert torch.allclose(set_backbone_norm(encoder, "FrozenBN")(images), before, atol=1e-6)


def test_wrong_options_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="backbone_norm='GN': must be 'BN', 'SyncBN'"):
        tiny("out", "backbone_norm=GN")
    with pytest.raises(ConfigError, match="for ResNets"):
        build_detector(tiny("out", "freeze_stages=2"), 2)


def test_proposals_that_are_not_finite_end_the_step_on_all_processes(tiny: Tiny) -> None:
    """No error on one process, for which the others would wait, but a loss that all see."""
    setup = prepare(tiny())
    model, batch = setup.detector.model, next(iter(training_batches(setup, 0)))
    with EventStorage():
        assert all(v.isfinite() for v in model(batch).values())
        model.proposal_generator.rpn_head.anchor_deltas.bias.data.fill_(float("inf"))
        losses = model(batch)
        assert losses["loss_rpn_cls"].isnan()
        assert losses["loss_mask"].isfinite()
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_precise_batchnorm_is_the_average_over_batches() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2)
    batches = [torch.randn(50, 2) + i for i in range(4)]
    precise_bn(norm, iter(batches), 4)
    mean = torch.stack([b.mean(0) for b in batches]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)


def test_a_compiled_encoder_keeps_its_names(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: called.append(type(self).__name__))
    run(tiny("out", "train.compile=true", "schedule.steps=1", "test.pictures=0"))
    assert called == ["TimmFeatures"]
    names = checkpoint.load(Path(tiny().output_dir) / "model_final.pth")["model"]
    assert not [n for n in names if "_orig_mod" in n]
