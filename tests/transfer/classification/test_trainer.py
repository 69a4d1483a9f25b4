"""What a step computes: timm's mixing and losses as the official codes put them together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from pretrain.data.order import Order
from pretrain.files.encoder_file import read_encoder
from pretrain.run.seeds import seed_draws
from transfer.classification.config import Targets, load_config
from transfer.classification.data import RepeatedOrder
from transfer.classification.run import run
from transfer.classification.trainer import criterion, mixing, order_of

CLASSES = 7


def loss_of(targets: Targets, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of some logits, with the mixing of seed 3."""
    seed_draws(3, 0, 0, 0)
    mix = mixing(targets, CLASSES)
    mixed, soft = mix(images.clone(), labels) if mix else (images, labels)
    return criterion(targets)(
        mixed.mean((2, 3)) @ torch.linspace(-1, 1, 3 * CLASSES).view(3, -1), soft
    )


@pytest.mark.parametrize(
    ("targets", "official"),
    [
        (Targets(mixup=0.8, cutmix=1.0), SoftTargetCrossEntropy()),
        (Targets(mixup=0.1, cutmix=1.0, loss="binary"), BinaryCrossEntropy(0, None)),
        (Targets(label_smoothing=0.2), LabelSmoothingCrossEntropy(smoothing=0.2)),
    ],
)
def test_the_loss_is_that_of_the_official_codes(targets, official):
    """main_finetune.py of MAE and ConvNeXt V2, run_class_finetuning.py; SparK's util.py."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 6, 6, generator=draws)
    labels = torch.randint(CLASSES, (8,), generator=draws)
    wanted_images, wanted = images.clone(), labels
    seed_draws(3, 0, 0, 0)
    if targets.mixes:
        official_mix = Mixup(
            mixup_alpha=targets.mixup,
            cutmix_alpha=targets.cutmix,
            cutmix_minmax=None,
            prob=1.0,
            switch_prob=0.5,
            mode="batch",
            label_smoothing=0.1,
            num_classes=CLASSES,
        )
        wanted_images, wanted = official_mix(images.clone(), labels)
    logits = wanted_images.mean((2, 3)) @ torch.linspace(-1, 1, 3 * CLASSES).view(3, -1)
    assert loss_of(targets, images, labels) == official(logits, wanted)


def test_without_mixing_or_smoothing_it_is_cross_entropy():
    images, labels = torch.randn(4, 3, 6, 6), torch.tensor([0, 3, 6, 2])
    logits = images.mean((2, 3)) @ torch.linspace(-1, 1, 3 * CLASSES).view(3, -1)
    found = loss_of(Targets(label_smoothing=0.0), images, labels)
    assert found.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_images_come_in_the_order_that_is_asked_for():
    config = load_config("mae_base.py", ["batch_size=8"])
    assert type(order_of(config, 24, 3)) is Order
    assert isinstance(order_of(replace(config, repeats=3), 24, 3), RepeatedOrder)


def test_accumulation_computes_the_same_step(small, tree, tmp_path: Path):
    """Without BatchNorm and mixing, only rounding may differ; other images would."""
    net = json.dumps({"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]})
    words = [
        "weights=none",
        "arch=convnextv2_atto",
        f"arch_args={net}",
        "mixup=0",
        "cutmix=0",
        "base_lr=0.001",
    ]
    run(small(*words), tree, tmp_path / "whole")
    run(small(*words, "device_batch_size=2"), tree, tmp_path / "parts")
    run(small(*words, "seed=1"), tree, tmp_path / "other")
    tensors = [
        read_encoder(tmp_path / n / "encoder.safetensors")[0] for n in ("whole", "parts", "other")
    ]
    name = "stages.2.blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(tensors[0][name], tensors[1][name], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(tensors[0][name], tensors[2][name], atol=1e-3)
